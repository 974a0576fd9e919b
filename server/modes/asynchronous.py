"""Async: every push is applied as it comes, and answered at once.

The staleness of a push is the number of updates that were applied since the weights it was computed from
(Zhang et al. 2016, "Staleness-aware Async-SGD"); ``--staleness-scaling`` divides the learning rate by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ps.server.chunk import ChunkState, Contribution, Seat, Waiter

Seats = Mapping[int, Seat]


def next_contribution(chunk: ChunkState) -> list[Contribution] | None:
    """Return the contribution that came first, alone."""
    return [next(iter(chunk.pending.values()))] if chunk.pending else None


def clocks_done(chunk: ChunkState, seats: Seats) -> dict[int, int]:
    """Return for each worker that takes part how many clocks it has done."""
    return {
        seat.member: max(seat.start, chunk.done.get(seat.member, 0))
        for seat in seats.values()
        if seat.start is not None
    }


def newcomer_clock(chunk: ChunkState, seats: Seats) -> int:
    """Return the slowest worker's clock: a newcomer there holds up nobody and is ahead of nobody."""
    done = clocks_done(chunk, seats)
    return min(done.values()) if done else max(chunk.done.values(), default=0)


@dataclass(frozen=True, slots=True)
class Async:
    """The mode ``async``."""

    lockstep: bool = False

    def late(self, chunk: ChunkState, clock: int) -> bool:
        return False

    def due(self, chunk: ChunkState, seats: Seats) -> list[Contribution] | None:
        return next_contribution(chunk)

    def idle(self, chunk: ChunkState, seats: Seats) -> bool:
        return False

    def free(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> bool:
        return True

    def missing(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> tuple[int, ...]:
        return ()

    def entry(self, chunk: ChunkState, seats: Seats) -> int:
        return newcomer_clock(chunk, seats)

    def staleness(self, chunk: ChunkState, contribution: Contribution, seats: Seats) -> int:
        return chunk.version - contribution.version
