"""ExampleStream: data that are gone through from their begin, whose number nobody need know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from ps.data.collate import collate
from ps.data.epochs import demand_whole
from ps.errors import DataError


@runtime_checkable
class Epochs(Protocol):
    """What is in another order in each epoch, once it is told which."""

    def set_epoch(self, epoch: int) -> object: ...


@runtime_checkable
class Shardable(Protocol):
    """A stream of Hugging Face: files, of which each worker may read its own alone."""

    num_shards: int

    def shard(self, num_shards: int, index: int) -> Any: ...


class ExampleStream:
    """Examples, or with ``batch_size`` None batches, of an iterable, dealt out to the workers one by one.

    Example k of the stream is worker k mod n's, so all must iterate over the same. Where a round cannot be dealt out to
    the end, its examples are left out if there are fewer than workers, and the last batches are smaller otherwise: all
    workers have the same number of batches. ``own``: the stream is this worker's alone, and nothing is dealt out.
    """

    def __init__(self, data: Iterable[Any], batch_size: int | None, *, own: bool = False) -> None:
        """Raises DataError for a batch size that is none."""
        if batch_size is not None:
            demand_whole("batch_size", batch_size)
        self.data = data
        self._size = batch_size
        self._own = own
        self._name = type(data).__name__

    @property
    def once(self) -> bool:
        """Whether it can be gone through once, as a generator can."""
        return isinstance(self.data, Iterator)

    def check(self, epochs: int) -> None:
        """Raise DataError where it cannot be gone through so often."""
        demand_whole("epochs", epochs)
        if self.once and epochs > 1:
            raise DataError(
                f"a {self._name} can be gone through once and is exhausted then, and {epochs} epochs were asked for: "
                f"give what begins anew each time, such as a list, or an object whose __iter__ does"
            )

    def epoch(self, number: int, rank: int, num_workers: int) -> Iterator[list[Any]]:
        """Yield one worker's batches of one epoch, each as a list of what the iterable gives.

        Raises DataError, at the first batch, where it gives nothing.
        """
        data, own = self.data, self._own
        if isinstance(data, Epochs):
            data.set_epoch(number)
        if not own and isinstance(data, Shardable) and not data.num_shards % num_workers:
            data, own = data.shard(num_shards=num_workers, index=rank), True
        if own:
            rank, num_workers = 0, 1
        size = num_workers * (self._size or 1)
        mine: list[Any] = []
        count = total = 0
        for example in data:
            if count % num_workers == rank:
                mine.append(example)
            count, total = count + 1, total + 1
            if count == size:
                yield mine
                mine, count = [], 0
        if count >= num_workers and mine:
            yield mine
        if not total:
            again = "; it was gone through before, and begins anew for nobody" if self.once or number else ""
            raise DataError(f"the {self._name} gave no examples{again}")

    def join(self, examples: list[Any]) -> Any:
        """Return what ``epoch`` yielded as a batch."""
        return examples[0] if self._size is None else collate(examples)
