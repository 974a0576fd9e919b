"""What a script's data are: arrays, examples by index, a loader, or a stream; and what they are not, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ps import xp
from ps.data.columns import Columns
from ps.data.dataset import Dataset
from ps.data.foreign_loader import Batching, ForeignLoader, is_default
from ps.data.indexed import Indexed, IndexedExamples, example_at
from ps.data.stream import Epochs, ExampleStream
from ps.errors import DataError
from ps.text import with_article

Source: TypeAlias = Columns | IndexedExamples | ForeignLoader | ExampleStream


def source_of(data: Any, batch_size: int | None) -> Source:
    """Return how to read ``data``. Raises DataError for what holds no examples, and where a batch size is missing."""
    _refuse(data)
    if isinstance(data, Batching) and data.batch_sampler is not None:
        return _of_loader(data, batch_size)
    if is_columns(data):
        return Columns(data, _demanded(batch_size))
    if isinstance(data, Indexed) and _gives_examples(data):
        return IndexedExamples(data, _demanded(batch_size))
    if isinstance(data, Iterable):
        return ExampleStream(data, batch_size)
    raise DataError(
        f"data is {_named(data)}: expected arrays, a sequence or a data set of examples, an iterable, or a DataLoader"
    )


def _of_loader(data: Any, batch_size: int | None) -> Source:
    if batch_size is not None:
        raise DataError(f"a {type(data).__name__} makes its batches itself: leave batch_size out here")
    by_index = isinstance(data.dataset, Indexed) and _gives_examples(data.dataset)
    if by_index and is_default(data):
        return ForeignLoader(data, IndexedExamples(data.dataset, data.batch_size))
    # With a sampler of the script's, that says what is this worker's; else a stream, which all workers read.
    return ExampleStream(_LoaderEpochs(data) if isinstance(data.sampler, Epochs) else data, None, own=by_index)


class _LoaderEpochs:
    """A loader whose sampler is told the number of each epoch."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def set_epoch(self, epoch: int) -> None:
        self._loader.sampler.set_epoch(epoch)

    def __iter__(self) -> Any:
        return iter(self._loader)


def _refuse(data: Any) -> None:
    if isinstance(data, Mapping):
        names = ", ".join(map(str, list(data)[:5]))
        raise DataError(
            f"data is {_named(data)} with {names or 'nothing'}: give one data set of it, or the tuple of its arrays"
        )
    if isinstance(data, str | bytes):
        raise DataError(f"data is {_named(data)}: give the examples themselves, not where they are")


def is_columns(data: Any) -> bool:
    """Whether data are arrays whose first axis counts the examples: one, a tuple or list of them, or a Dataset."""
    if isinstance(data, Dataset | tuple) or _is_array(data):
        return True
    return isinstance(data, list) and all(_is_array(part) or isinstance(part, list) for part in data)


def _is_array(data: Any) -> bool:
    return any(isinstance(data, backend.array_type) for backend in xp.backends()) or hasattr(data, "__dlpack__")


def _gives_examples(data: Indexed) -> bool:
    """Whether it has examples by index, as its methods promise. Raises DataError when the first cannot be read."""
    try:
        if len(data):
            example_at(data, 0)
    except (NotImplementedError, TypeError):  # as iterable data sets of PyTorch have it
        return False
    return True


def _demanded(batch_size: int | None) -> int:
    if batch_size is None:
        raise DataError("batch_size is missing: how many examples a batch has at most")
    return batch_size


def _named(data: Any) -> str:
    return with_article(type(data).__name__)
