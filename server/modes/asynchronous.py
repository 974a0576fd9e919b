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
    """Return for each worker that takes part, or is about to, how many clocks it has done."""
    starts = ((m, seat.start if seat.start is not None else chunk.holds.get(m)) for m, seat in seats.items())
    return {member: max(start, chunk.done.get(member, 0)) for member, start in starts if start is not None}


def newcomer_clock(chunk: ChunkState, seats: Seats) -> int:
    """Return the slowest worker's clock: a newcomer there holds up nobody and is ahead of nobody."""
    done = clocks_done(chunk, seats)
    return min(done.values()) if done else chunk.reached


@dataclass(frozen=True, slots=True)
class Async:
    """The mode ``async``."""

    lockstep: bool = False

    def late(self, chunk: ChunkState, clock: int) -> bool:
        return False

    def due(self, chunk: ChunkState, seats: Seats) -> list[Contribution] | None:
        return next_contribution(chunk)

    def skip_to(self, chunk: ChunkState, seats: Seats) -> int:
        return chunk.version

    def free(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> bool:
        return True

    def missing(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> tuple[int, ...]:
        return ()

    def entry(self, chunk: ChunkState, seats: Seats) -> int:
        return newcomer_clock(chunk, seats)

    def staleness(self, chunk: ChunkState, contribution: Contribution, seats: Seats) -> int:
        return max(0, chunk.version - contribution.version)
