"""Spy: an Updater that remembers whose contributions it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ps.server.chunk import ChunkState, Contribution
from ps.server.update import Updater

Log: TypeAlias = list[tuple[int, tuple[tuple[int, int, int, bool], ...]]]
"""(chunk, ((member, rank, clock, whether it skipped), ...)) in the order in which they were applied."""


class Spy(Updater):
    """An Updater that writes down what it applies."""

    log: Log

    def note(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> None:
        entry = tuple((c.member, c.rank, c.clock, c.gradient is None) for c in contributions)
        self.log.append((chunk.chunk.index, entry))

    def apply(self, chunk: ChunkState, contributions: Sequence[Contribution], staleness: int) -> None:
        self.note(chunk, contributions)
        super().apply(chunk, contributions, staleness)

    def combine(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> tuple[np.ndarray | None, float]:
        self.note(chunk, contributions)
        return super().combine(chunk, contributions)
