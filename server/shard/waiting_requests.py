"""The requests that wait on a server: as its status shows them, and as their workers ask after them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from ps.protocol.messages import Waiting
from ps.server.send import Origin, Send
from ps.server.shard.chunk import ChunkState, Waiter

Blockers: TypeAlias = Callable[[ChunkState, Waiter], tuple[int, ...]]
"""Returns the ranks that a request waits for."""
LONG = 1.0
"""Seconds after which a request is shown."""


def waiting_requests(chunks: Mapping[int, ChunkState], blockers: Blockers, now: float) -> list[dict[str, Any]]:
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


def known_requests(
    chunks: Mapping[int, ChunkState], member: int, origin: Origin, blockers: Blockers
) -> tuple[set[int], set[int], int]:
    """Return the numbers of a worker's requests that wait, the ranks that they wait for, and up to which clock.

    They are answered at ``origin``: its connection may be a new one.
    """
    known, ranks, clock = set[int](), set[int](), 0
    for chunk in chunks.values():
        for waiter in chunk.waiters:
            if waiter.member == member:
                waiter.origin = origin
                known.add(waiter.request)
                ranks.update(blockers(chunk, waiter))
                clock = max(clock, waiter.clock)
    return known, ranks, clock


def with_known(answer: Send, known: Collection[int]) -> Send:
    """Return the answer to a question about requests as one by which these are known, too."""
    if not known or not isinstance(answer.message, Waiting):
        return answer
    unknown = tuple(number for number in answer.message.unknown if number not in known)
    return replace(answer, message=replace(answer.message, unknown=unknown))
