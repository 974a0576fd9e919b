"""BlankBatches: batches of zeros in the place of others, for a process that takes as many steps and reads no data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.data.collate import size_of
from ps.data.epochs import batches, steps_per_epoch
from ps.data.source import Source
from ps.data.stream import ExampleStream
from ps.errors import DataError


class BlankBatches:
    """As many batches as a source has, of the sizes, shapes and dtypes of these. One batch is read, to be like it."""

    def __init__(self, source: Source) -> None:
        """Raises DataError for a stream: how many batches it has is found out by reading it."""
        if isinstance(source, ExampleStream):
            raise DataError(
                "a stream has no length, and a job whose workers have stages of a model needs one: only the worker "
                "with the first stage reads the data, and the others take as many steps. Give arrays, a list, or a "
                "data set with len()"
            )
        self.batch_size = source.batch_size
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def steps(self, batch_size: int, num_workers: int) -> int:
        """Return how many batches each worker has in an epoch. Raises DataError."""
        return steps_per_epoch(len(self), batch_size, num_workers)

    def batches(self, batch_size: int, **how: Any) -> Iterator[Any]:
        """Yield one worker's batches, without what is in them. Raises DataError at the call."""
        numbers = batches(np.broadcast_to(np.int8(0), len(self)), batch_size, **how)

        def generate() -> Iterator[Any]:
            like = next(iter(self._source.batches(batch_size)))
            size = size_of(like)
            for each in numbers:
                yield _blank(like, size, len(each))

        return generate()


def _blank(like: Any, size: int, wanted: int) -> Any:
    """Return what is like a batch of ``size`` examples, with the ``wanted`` number of them."""
    if isinstance(like, Mapping):
        return {key: _blank(value, size, wanted) for key, value in like.items()}
    if isinstance(like, tuple):
        parts = [_blank(value, size, wanted) for value in like]
        kind: Any = type(like)
        return kind(*parts) if getattr(like, "_fields", ()) else tuple(parts)
    if isinstance(like, list):
        return [like[0]] * wanted if len(like) == size else like
    shape = getattr(like, "shape", None)
    if not shape or shape[0] != size:
        return like
    if isinstance(like, np.ndarray):
        return np.zeros((wanted, *shape[1:]), like.dtype)
    if any(isinstance(like, backend.array_type) for backend in xp.backends()):
        return xp.namespace(like).zeros((wanted, *shape[1:]), like.dtype)
    return like.new_zeros((wanted, *shape[1:]))  # a tensor of torch, which is not imported here
