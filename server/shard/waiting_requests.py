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
    """Return for which clock, and for whom, requests wait, how long, and for how many chunks; the first is named."""
    waiting: dict[tuple[int, tuple[int, ...]], tuple[float, set[int]]] = {}
    for index, chunk in chunks.items():
        for waiter in chunk.waiters:
            key = (waiter.clock, blockers(chunk, waiter))
            longest, held = waiting.get(key, (0.0, set()))
            waiting[key] = max(longest, now - waiter.since), held | {index}
    return [
        {"clock": clock, "for": list(ranks), "seconds": round(seconds, 2), "chunk": min(held), "chunks": len(held)}
        for (clock, ranks), (seconds, held) in waiting.items()
        if seconds > LONG
    ]
