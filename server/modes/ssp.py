"""SSP: pushes are applied as they come, but nobody runs more than ``staleness`` clocks ahead of the slowest.

Ho et al. 2013, "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server". A worker that
has done c clocks gets its weights, and with them leave to begin its next, once the slowest has done c - s. A push
that comes without that leave is not applied before then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ps.server.chunk import ChunkState, Contribution, Seat, Waiter
from ps.server.modes.asynchronous import clocks_done, newcomer_clock

Seats = Mapping[int, Seat]


@dataclass(frozen=True, slots=True)
class Ssp:
    """The mode ``ssp``; the staleness reported is the number of clocks ahead of the slowest."""

    staleness_bound: int
    lockstep: bool = False

    def late(self, chunk: ChunkState, clock: int) -> bool:
        return False

    def due(self, chunk: ChunkState, seats: Seats) -> list[Contribution] | None:
        if not chunk.pending:
            return None
        slowest = min(clocks_done(chunk, seats).values(), default=chunk.reached)
        return next(([c] for c in chunk.pending.values() if c.clock - self.staleness_bound <= slowest), None)

    def skip_to(self, chunk: ChunkState, seats: Seats) -> int:
        return chunk.version

    def free(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> bool:
        return not self.missing(chunk, waiter, seats)

    def missing(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> tuple[int, ...]:
        needed = waiter.clock - self.staleness_bound
        done = clocks_done(chunk, seats)
        return tuple(sorted(seats[member].rank for member, clock in done.items() if clock < needed))

    def entry(self, chunk: ChunkState, seats: Seats) -> int:
        return newcomer_clock(chunk, seats)

    def staleness(self, chunk: ChunkState, contribution: Contribution, seats: Seats) -> int:
        slowest = min(clocks_done(chunk, seats).values(), default=contribution.clock)
        return max(0, contribution.clock - slowest)
