"""Sync: a clock is closed when every worker that takes part in it has pushed, or all but the backups.

With b backup workers the first N - b contributions close the clock (Chen et al. 2016, "Revisiting Distributed
Synchronous SGD"). One that came too late goes on at a later clock; in those that it passes over it is one of the b.
Contributions are added in rank order, so two runs give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ps.server.chunk import ChunkState, Contribution, Seat, Waiter

Seats = Mapping[int, Seat]


@dataclass(frozen=True, slots=True)
class Sync:
    """The mode ``sync``; a chunk's version is the clock being collected."""

    backup_workers: int = 0
    lockstep: bool = True

    def late(self, chunk: ChunkState, clock: int) -> bool:
        return clock < chunk.version

    def due(self, chunk: ChunkState, seats: Seats) -> list[Contribution] | None:
        if not chunk.pending or chunk.combined is not None:
            return None
        if any(clock <= chunk.version for clock in chunk.holds.values()):
            return None
        if len(self._absent(chunk, seats)) > max(0, self.backup_workers - self._ahead(chunk, seats)):
            return None
        return sorted(chunk.pending.values(), key=lambda contribution: (contribution.rank, contribution.member))

    def skip_to(self, chunk: ChunkState, seats: Seats) -> int:
        starts = [seat.start for seat in seats.values() if seat.start is not None]
        if not starts or chunk.pending or chunk.combined is not None:
            return chunk.version
        return max(chunk.version, min([*starts, *chunk.holds.values()]))

    def free(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> bool:
        return chunk.version >= waiter.clock

    def missing(self, chunk: ChunkState, waiter: Waiter, seats: Seats) -> tuple[int, ...]:
        held = {member for member, clock in chunk.holds.items() if clock <= chunk.version}
        absent = {seat.member for seat in self._absent(chunk, seats)} | held
        return tuple(sorted(seats[member].rank for member in absent if member in seats))

    def entry(self, chunk: ChunkState, seats: Seats) -> int:
        collecting = chunk.combined is not None or any(seat.start is not None for seat in seats.values())
        return chunk.version + 1 if collecting else chunk.version

    def staleness(self, chunk: ChunkState, contribution: Contribution, seats: Seats) -> int:
        return max(0, chunk.version - contribution.version)

    def _absent(self, chunk: ChunkState, seats: Seats) -> list[Seat]:
        return [
            seat
            for seat in seats.values()
            if seat.start is not None and seat.start <= chunk.version and seat.member not in chunk.pending
        ]

    @staticmethod
    def _ahead(chunk: ChunkState, seats: Seats) -> int:
        """Return how many take part, but only in clocks after this one."""
        return sum(
            seat.start is not None and seat.start > chunk.version and seat.member not in chunk.pending
            for seat in seats.values()
        )
