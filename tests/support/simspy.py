"""Spy: an Updater that remembers whose contributions it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ps.config.job import JobConfig
from ps.protocol.messages.rate import UNSAID, Rate
from ps.server.shard.chunk import ChunkState, Combined, Contribution
from ps.server.shard.update import Updater

Log: TypeAlias = list[tuple[int, tuple[tuple[int, int, int, bool], ...]]]
"""(chunk, ((member, rank, clock, whether it skipped), ...)) in the order in which they were applied."""


Used: TypeAlias = dict[tuple[int, int], set[Rate]]
"""(clock, and in async and ssp the member, whose gradient it was) -> the words about the learning rate that counted."""


class Spy(Updater):
    """An Updater that writes down what it applies."""

    log: Log
    used: Used

    def __init__(self, job: JobConfig) -> None:
        super().__init__(job)
        self._lockstep = job.lockstep

    def note(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> None:
        entry = tuple((c.member, c.rank, c.clock, c.gradient is None) for c in contributions)
        self.log.append((chunk.chunk.index, entry))

    def apply(
        self, chunk: ChunkState, contributions: Sequence[Contribution], staleness: int, rate: Rate = UNSAID
    ) -> None:
        self.note(chunk, contributions)
        first = contributions[0]
        self.used.setdefault((first.clock, 0 if self._lockstep else first.member), set()).add(rate)
        super().apply(chunk, contributions, staleness, rate)

    def apply_combined(self, chunk: ChunkState, combined: Combined, scale: float) -> None:
        if combined.gradient is not None:
            self.used.setdefault((combined.clock, 0), set()).add(combined.rate)
        super().apply_combined(chunk, combined, scale)

    def combine(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> tuple[np.ndarray | None, float]:
        self.note(chunk, contributions)
        return super().combine(chunk, contributions)
