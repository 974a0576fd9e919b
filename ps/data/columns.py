"""Columns: data as arrays of one length, whose first axis counts the examples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ps.data.dataset import Dataset
from ps.data.epochs import batches, beside, demand_arrays, num_examples, steps_per_epoch
from ps.xp import Array, HostArray


class Columns:
    """A Dataset, an array, or several of one length."""

    def __init__(self, data: Any, batch_size: int) -> None:
        self.data = data
        self.batch_size = batch_size

    def __len__(self) -> int:
        return num_examples(self.data)

    def steps(self, batch_size: int, num_workers: int) -> int:
        """Return how many batches each worker has in an epoch. Raises DataError."""
        return steps_per_epoch(len(self), batch_size, num_workers)

    def at(self, picks: HostArray) -> Any:
        """Return the batch of the examples with these numbers, (n,)."""
        batch = tuple(array[beside(array, picks)] for array in self.arrays)
        return batch if isinstance(self.data, Dataset | tuple | list) else batch[0]

    @cached_property
    def arrays(self) -> list[Array]:
        """All of them. Raises DataError for what is none."""
        return demand_arrays(self.data)

    def batches(self, batch_size: int, **how: Any) -> Iterator[Any]:
        """Yield one worker's batches. Raises DataError at the call."""
        return batches(self.data, batch_size, **how)
