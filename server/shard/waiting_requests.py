"""The requests that have waited for long on a server, as its status shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ps.server.shard.chunk import ChunkState, Waiter

LONG = 1.0
"""Seconds after which a request is shown."""


def waiting_requests(
    chunks: Mapping[int, ChunkState], blockers: Callable[[ChunkState, Waiter], tuple[int, ...]], now: float
) -> list[dict[str, Any]]:
    """Return for which clock, and for whom, requests wait, how long, and for how many chunks; the first is named.

    Whom a request waits for follows from its chunk and clock, so it is asked of the first for each: there may be as
    many as workers times chunks.
    """
    found: dict[tuple[int, tuple[int, ...]], list[tuple[float, int]]] = {}
    for index, chunk in chunks.items():
        first: dict[int, Waiter] = {}
        for waiter in chunk.waiters:
            if waiter.clock not in first or waiter.since < first[waiter.clock].since:
                first[waiter.clock] = waiter
        for clock, waiter in first.items():
            if (seconds := now - waiter.since) > LONG:
                found.setdefault((clock, blockers(chunk, waiter)), []).append((seconds, index))
    return [
        {
            "clock": clock,
            "for": list(ranks),
            "seconds": round(max(waited)[0], 2),
            "chunk": min(index for _, index in waited),
            "chunks": len(waited),
        }
        for (clock, ranks), waited in found.items()
    ]


def known_requests(chunks: Mapping[int, ChunkState], member: int) -> dict[int, tuple[ChunkState, Waiter]]:
    """Return the requests of a worker that wait, by their numbers."""
    found = ((chunk, waiter) for chunk in chunks.values() for waiter in chunk.waiters if waiter.member == member)
    return {waiter.request: (chunk, waiter) for chunk, waiter in found}
