"""SSP: pushes are applied as they come, but nobody runs more than ``staleness`` clocks ahead of the slowest.

Ho et al. 2013, "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server". A worker that
has done c clocks gets its weights, and with them leave to begin its next, once the slowest has done c - s. A push
that comes without that leave is not applied before then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.server.modes.asynchronous import clocks_done, newcomer_clock, slowest_clock
from ps.server.shard.chunk import ChunkState, Contribution, Participant, Waiter

Participants = Mapping[int, Participant]


@dataclass(frozen=True, slots=True)
class Ssp:
    """The mode ``ssp``; the staleness reported is the number of clocks ahead of the slowest."""

    staleness_bound: int

    def late(self, chunk: ChunkState, clock: int) -> bool:
        return False

    def ready(self, chunk: ChunkState, participants: Participants) -> list[Contribution] | None:
        if not chunk.pending:
            return None
        slowest = newcomer_clock(chunk, participants)
        return next(([c] for c in chunk.pending.values() if c.clock - self.staleness_bound <= slowest), None)

    def advance_to(self, chunk: ChunkState, participants: Participants) -> int:
        return chunk.version

    def answered_until(self, chunk: ChunkState, participants: Participants) -> float:
        slowest = slowest_clock(chunk, participants)
        return math.inf if slowest is None else slowest + self.staleness_bound

    def blockers(self, chunk: ChunkState, waiter: Waiter, participants: Participants) -> tuple[int, ...]:
        needed = waiter.clock - self.staleness_bound
        done = clocks_done(chunk, participants)
        return tuple(sorted(participants[member].rank for member, clock in done.items() if clock < needed))

    def join_clock(self, chunk: ChunkState, participants: Participants) -> int:
        return newcomer_clock(chunk, participants)

    def staleness(self, chunk: ChunkState, contribution: Contribution, participants: Participants) -> int:
        slowest = slowest_clock(chunk, participants)
        return 0 if slowest is None else max(0, contribution.clock - slowest)


def build(job: JobConfig) -> Ssp:
    """Return the mode as a job has it."""
    return Ssp(job.staleness)
