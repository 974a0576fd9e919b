"""Sync: a clock is closed when every worker that takes part in it has pushed, or all but the backups.

With b backup workers the first N - b contributions close the clock (Chen et al. 2016, "Revisiting Distributed
Synchronous SGD"). One that came too late goes on at a later clock; in those that it passes over it is one of the b.
Contributions are added in rank order, so two runs give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.server.shard.chunk import ChunkState, Contribution, Participant, Waiter

Participants = Mapping[int, Participant]


@dataclass(frozen=True, slots=True)
class Sync:
    """The mode ``sync``; a chunk's version is the clock being collected."""

    backup_workers: int = 0

    def late(self, chunk: ChunkState, clock: int) -> bool:
        return clock < chunk.collected

    def ready(self, chunk: ChunkState, participants: Participants) -> list[Contribution] | None:
        if not chunk.pending or chunk.combined is not None:
            return None
        if any(clock <= chunk.version for clock in chunk.holds.values()):
            return None
        absent = len(self._absent(chunk, participants))
        if absent and absent > self.backup_workers - self._ahead(chunk, participants):
            return None
        return sorted(chunk.pending.values(), key=lambda contribution: (contribution.rank, contribution.member))

    def advance_to(self, chunk: ChunkState, participants: Participants) -> int:
        starts = [participant.start for participant in participants.values() if participant.start is not None]
        if not starts or chunk.pending or chunk.combined is not None:
            return chunk.version
        return max(chunk.version, min([*starts, *chunk.holds.values()]))

    def answered_until(self, chunk: ChunkState, participants: Participants) -> float:
        return chunk.version

    def blockers(self, chunk: ChunkState, waiter: Waiter, participants: Participants) -> tuple[int, ...]:
        held = {member for member, clock in chunk.holds.items() if clock <= chunk.version}
        absent = {participant.member for participant in self._absent(chunk, participants)} | held
        return tuple(sorted(participants[member].rank for member in absent if member in participants))

    def join_clock(self, chunk: ChunkState, participants: Participants) -> int:
        collecting = chunk.combined is not None or any(
            participant.start is not None for participant in participants.values()
        )
        return chunk.version + 1 if collecting else chunk.version

    def staleness(self, chunk: ChunkState, contribution: Contribution, participants: Participants) -> int:
        return max(0, chunk.version - contribution.version)

    def _absent(self, chunk: ChunkState, participants: Participants) -> list[Participant]:
        return [
            participant
            for participant in participants.values()
            if participant.start is not None
            and participant.start <= chunk.version
            and participant.member not in chunk.pending
        ]

    @staticmethod
    def _ahead(chunk: ChunkState, participants: Participants) -> int:
        """Return how many take part, but only in clocks after this one; those that come in are about to."""
        starts = (
            chunk.holds.get(participant.member) if participant.start is None else participant.start
            for participant in participants.values()
            if participant.member not in chunk.pending
        )
        return sum(start is not None and start > chunk.version for start in starts)


def build(job: JobConfig) -> Sync:
    """Return the mode as a job has it."""
    return Sync(job.backup_workers)
