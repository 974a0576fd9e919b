"""IndexedExamples: data that give one example for each index, as lists and data sets of PyTorch and Hugging Face do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ps.data.collate import collate
from ps.data.epochs import batches, steps_per_epoch
from ps.errors import DataError
from ps.xp import HostArray

LABELS = ("label", "labels")
"""Which field of an example that is a dict is its label."""


@runtime_checkable
class Indexed(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class Gathering(Protocol):
    """Several examples at once."""

    def __getitems__(self, indices: list[int], /) -> Any: ...


class IndexedExamples:
    """The examples of ``data``, or those at some indices of it; divided among workers as arrays are, by number."""

    def __init__(self, data: Indexed, batch_size: int, indices: HostArray | None = None) -> None:
        self.data = data
        self.batch_size = batch_size
        self._indices = indices

    def __len__(self) -> int:
        return len(self.data) if self._indices is None else len(self._indices)

    def steps(self, batch_size: int, num_workers: int) -> int:
        """Return how many batches each worker has in an epoch. Raises DataError."""
        return steps_per_epoch(len(self), batch_size, num_workers)

    def batches(self, batch_size: int, **how: Any) -> Iterator[Any]:
        """Yield the batches that ``ps.data.batches`` yields of arrays. Raises DataError at the call."""
        picks = batches(np.arange(len(self)), batch_size, **how)
        return (collate(self.take(each)) for each in picks)

    def at(self, picks: HostArray) -> Any:
        """Return the batch of the examples with these numbers, (n,)."""
        return collate(self.take(picks))

    def picked(self, picks: HostArray) -> list[int]:
        """Return the indices in ``data`` of some of these examples."""
        return [int(index) for index in (picks if self._indices is None else self._indices[picks])]

    def take(self, picks: HostArray) -> list[Any]:
        """Return some of the examples. Raises DataError when one cannot be read."""
        indices = self.picked(picks)
        if isinstance(self.data, Gathering):
            return list(self.data.__getitems__(indices))
        return [example_at(self.data, index) for index in indices]

    def share(self, indices: HostArray) -> IndexedExamples:
        """Return those at some indices, such as one client's."""
        return IndexedExamples(self.data, self.batch_size, np.asarray(self.picked(indices)))

    def labels(self) -> HostArray:
        """Return each example's label (n,): the last field of a tuple, or ``label`` of a dict. Raises DataError."""
        return np.asarray([_label(example_at(self.data, index)) for index in self.picked(np.arange(len(self)))])


def example_at(data: Indexed, index: int) -> Any:
    """Return one example. Raises DataError, NotImplementedError as the data do."""
    try:
        return data[index]
    except NotImplementedError:
        raise
    except Exception as error:
        what = f"example {index} of {len(data)} of the {type(data).__name__}"
        raise DataError(f"{what} cannot be read: {type(error).__name__}: {error}") from error


def _label(example: Any) -> Any:
    if isinstance(example, Mapping):
        found = [example[name] for name in LABELS if name in example]
        if not found:
            raise DataError(
                f"the examples have no field {' or '.join(LABELS)} by which to divide them, only {', '.join(example)}; "
                f"without labels there are iid, quantity and own"
            )
        return found[0]
    return example[-1] if isinstance(example, tuple) else example
