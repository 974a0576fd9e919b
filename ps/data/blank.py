"""BlankBatches: batches of zeros in the place of others, for a process that takes as many steps and reads no data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.data.columns import Columns
from ps.data.epochs import batches, steps_per_epoch
from ps.data.foreign_loader import ForeignLoader
from ps.data.indexed import IndexedExamples
from ps.data.source import Source
from ps.data.stream import ExampleStream
from ps.errors import DataError
from ps.sequences import rebuilt


class BlankBatches:
    """As many batches as a source has, of their sizes, shapes and dtypes. One example is read, to be like it."""

    def __init__(self, source: Source) -> None:
        """Raises DataError as ``demand_length`` does."""
        self._source = demand_length(source)
        self.batch_size = self._source.batch_size

    def __len__(self) -> int:
        return len(self._source)

    def steps(self, batch_size: int, num_workers: int) -> int:
        """Return how many batches each worker has in an epoch. Raises DataError."""
        return steps_per_epoch(len(self), batch_size, num_workers)

    def batches(self, batch_size: int, **how: Any) -> Iterator[Any]:
        """Yield one worker's batches, without what is in them. Raises DataError at the call."""
        numbers = batches(np.broadcast_to(np.int8(0), len(self)), batch_size, **how)

        def generate() -> Iterator[Any]:
            like = next(iter(self._source.batches(1, shuffle=False)))
            for each in numbers:
                yield _blank(like, len(each))

        return generate()


def demand_length(source: Source) -> Columns | IndexedExamples | ForeignLoader:
    """Return a source. Raises DataError for a stream: how many batches it has is found out by reading it."""
    if isinstance(source, ExampleStream):
        raise DataError(
            "a stream has no length, and a job whose workers have stages of a model needs one: only the worker with "
            "the first stage reads the data, and the others take as many steps. Give arrays, a list, or a data set "
            "with len()"
        )
    return source


def _blank(like: Any, size: int) -> Any:
    """Return what is like a batch of one example, with ``size`` of them."""
    if isinstance(like, Mapping):
        return {key: _blank(value, size) for key, value in like.items()}
    if isinstance(like, tuple):
        return rebuilt(like, [_blank(value, size) for value in like])
    if isinstance(like, list):
        return like * size if len(like) == 1 else like
    shape = getattr(like, "shape", None)
    if not shape or shape[0] != 1:
        return like
    if isinstance(like, np.ndarray):
        return np.zeros((size, *shape[1:]), like.dtype)
    if any(isinstance(like, backend.array_type) for backend in xp.backends()):
        return xp.namespace(like).zeros((size, *shape[1:]), like.dtype)
    return like.new_zeros((size, *shape[1:]))  # a tensor of torch, which is not imported here
