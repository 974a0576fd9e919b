"""ForeignLoader: a DataLoader, by what it has (torch is not imported), whose batches are divided by index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ps.data.epochs import batches
from ps.data.indexed import IndexedExamples

KEPT = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
)
"""What a loader of one worker's share takes over from the one that was given."""

ORDERS = {"RandomSampler": True, "SequentialSampler": False}
"""The samplers that a loader has unless it was given another, and whether they shuffle."""


@runtime_checkable
class Batching(Protocol):
    """What makes batches of a data set by itself."""

    dataset: Any
    batch_sampler: Any
    sampler: Any
    batch_size: int | None


class ForeignLoader:
    """A loader whose sampler is one that it has made for itself: its processes and its collation stay. That of each
    worker is given that worker's indices, shuffled where the sampler shuffled."""

    def __init__(self, loader: Batching, examples: IndexedExamples) -> None:
        self._loader = loader
        self._examples = examples
        self.batch_size = examples.batch_size
        self._shuffle = ORDERS[type(loader.sampler).__name__]

    def __len__(self) -> int:
        return len(self._examples)

    def steps(self, batch_size: int, num_workers: int) -> int:
        """Return how many batches each worker has in an epoch. Raises DataError."""
        return self._examples.steps(batch_size, num_workers)

    def batches(self, batch_size: int, *, shuffle: bool = True, **how: Any) -> Iterator[Any]:
        """Yield one worker's batches over all epochs. Raises DataError at the call."""
        picks = batches(np.arange(len(self)), batch_size, shuffle=self._shuffle, **how)
        order = (self._examples.picked(each) for each in picks)
        kept = {name: getattr(self._loader, name) for name in KEPT}
        make: Any = type(self._loader)
        return iter(make(self._examples.data, batch_sampler=order, **kept))

    def share(self, indices: Any) -> ForeignLoader:
        """Return a loader of those at some indices, such as one client's."""
        return ForeignLoader(self._loader, self._examples.share(indices))

    def labels(self) -> Any:
        """Return each example's label. Raises DataError."""
        return self._examples.labels()


def is_default(loader: Batching) -> bool:
    """Whether the sampler is one that a loader makes for itself, which knows nothing of other workers."""
    kind = type(loader.sampler)
    is_own = kind.__name__ in ORDERS and kind.__module__.partition(".")[0] == "torch"
    return loader.batch_size is not None and is_own
