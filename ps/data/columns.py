"""Columns: data as arrays of one length, whose first axis counts the examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ps.data.epochs import batches, num_examples, steps_per_epoch


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

    def batches(self, batch_size: int, **how: Any) -> Iterator[Any]:
        """Yield one worker's batches. Raises DataError at the call."""
        return batches(self.data, batch_size, **how)
