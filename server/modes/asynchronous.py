"""Async: every push is applied as it comes, and answered at once.

The staleness of a push is the number of updates that were applied since the weights it was computed from
(Zhang et al. 2016, "Staleness-aware Async-SGD"); ``--staleness-scaling`` divides the learning rate by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.server.shard.chunk import ChunkState, Contribution, Participant, Waiter

Participants = Mapping[int, Participant]


def next_contribution(chunk: ChunkState) -> list[Contribution] | None:
    """Return the contribution that came first, alone."""
    return [next(iter(chunk.pending.values()))] if chunk.pending else None


def clocks_done(chunk: ChunkState, participants: Participants) -> dict[int, int]:
    """Return for each worker that takes part, or is about to, how many clocks it has done."""
    starts = (
        (m, participant.start if participant.start is not None else chunk.holds.get(m))
        for m, participant in participants.items()
    )
    return {member: max(start, chunk.done.get(member, 0)) for member, start in starts if start is not None}


def slowest_clock(chunk: ChunkState, participants: Participants) -> int | None:
    """Return the least of ``clocks_done``, None of nobody; looked for anew once all who were there have gone on."""
    if chunk.slowest is None:
        done = clocks_done(chunk, participants)
        if not done:
            return None
        least = min(done.values())
        chunk.slowest = least, {member for member, clock in done.items() if clock == least}
    return chunk.slowest[0]


def newcomer_clock(chunk: ChunkState, participants: Participants) -> int:
    """Return the slowest worker's clock: a newcomer there holds up nobody and is ahead of nobody."""
    slowest = slowest_clock(chunk, participants)
    return chunk.reached if slowest is None else slowest


@dataclass(frozen=True, slots=True)
class Async:
    """The mode ``async``."""

    def late(self, chunk: ChunkState, clock: int) -> bool:
        return False

    def ready(self, chunk: ChunkState, participants: Participants) -> list[Contribution] | None:
        return next_contribution(chunk)

    def advance_to(self, chunk: ChunkState, participants: Participants) -> int:
        return chunk.version

    def answered_until(self, chunk: ChunkState, participants: Participants) -> float:
        return math.inf

    def blockers(self, chunk: ChunkState, waiter: Waiter, participants: Participants) -> tuple[int, ...]:
        return ()

    def join_clock(self, chunk: ChunkState, participants: Participants) -> int:
        return newcomer_clock(chunk, participants)

    def staleness(self, chunk: ChunkState, contribution: Contribution, participants: Participants) -> int:
        return max(0, chunk.version - contribution.version)


def build(job: JobConfig) -> Async:
    """Return the mode as a job has it."""
    return Async()
