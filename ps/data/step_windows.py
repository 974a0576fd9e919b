"""StepWindows: which examples each step of a job has, whoever takes it: one shuffle for each epoch, cut into steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ps.data.columns import Columns
from ps.data.epochs import demand_whole, order_of
from ps.data.indexed import IndexedExamples
from ps.data.source import Source
from ps.errors import DataError
from ps.xp import HostArray


class StepWindows:
    """Step k of an epoch has ``size`` examples from k times ``size`` on, in its order; the last has what is left."""

    def __init__(self, source: Source, size: int, seed: int, shuffle: bool) -> None:
        """Raises DataError for data without an index, or with fewer examples than a step has."""
        if not isinstance(source, Columns | IndexedExamples):
            raise DataError(
                "with --global-batch which examples a worker has follows from who is there, step by step, so they "
                "need an index: give arrays, a list or a data set instead of a loader or a stream, or read them in a "
                "loop of your own, with kv.step(grads, examples=N)"
            )
        demand_whole("batch_size", source.batch_size)
        if size > len(source):
            raise DataError(f"global_batch = {size} is more than the {len(source)} examples that there are")
        self.source, self._size, self._seed, self._shuffle = source, size, seed, shuffle
        self.steps = math.ceil(len(source) / size)
        """How many an epoch has."""
        self._order: tuple[int, HostArray] = (-1, np.empty(0, np.int64))

    def count(self, step: int) -> int:
        """Return how many examples a step of an epoch has."""
        return min(self._size, len(self.source) - step * self._size)

    def batches(self, epoch: int, step: int, lo: int, hi: int) -> Iterator[Any]:
        """Yield the examples ``lo`` to ``hi`` of a step, in batches of about one size, at most the source's."""
        if self._order[0] != epoch:
            self._order = epoch, order_of(len(self.source), self._seed, epoch, self._shuffle)
        picks = self._order[1][step * self._size + lo : step * self._size + hi]
        parts = math.ceil(len(picks) / self.source.batch_size)
        for part in range(parts):
            yield self.source.at(picks[part * len(picks) // parts : (part + 1) * len(picks) // parts])
