"""Where chunks are: at the server that the layout deals them to, but for those that have moved. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from ps.protocol.messages import Elsewhere
from ps.protocol.ranges import MOST_CHUNKS

Where = Mapping[int, int]
"""Chunk -> rank of its server, of those that are not where the layout has them."""


def holder(chunk: int, servers: int, where: Where) -> int:
    """Return the rank of the server that has a chunk; ``servers``: to so many the layout deals chunks out, in turn."""
    return where.get(chunk, chunk % servers)


def packed(where: Where) -> Elsewhere:
    """Return which chunks are elsewhere, as it travels: those of a server that lie evenly are one row."""
    by_rank: dict[int, list[int]] = {}
    for chunk in sorted(where):
        by_rank.setdefault(where[chunk], []).append(chunk)
    rows = []
    for rank, chunks in sorted(by_rank.items()):
        at = 0
        while at < len(chunks):
            step = chunks[at + 1] - chunks[at] if at + 1 < len(chunks) else 0
            end = at + 1
            while end < len(chunks) and chunks[end] - chunks[end - 1] == step:
                end += 1
            rows.append((rank, chunks[at], step, end - at))
            at = end
    return tuple(rows)


def unpacked(rows: Elsewhere) -> dict[int, int]:
    """Return what ``packed`` was given; what would be beyond the last chunk there can be is left out."""
    return {
        first + step * number: rank
        for rank, first, step, count in rows
        for number in range(count if step else min(count, 1))
        if first + step * number < MOST_CHUNKS
    }
