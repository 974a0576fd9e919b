"""Loader: where a worker's batches come from, in any mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ps.worker.parameters import Parameters


def ignore(version: int) -> None:
    """Do nothing with a published version."""


class Loader(Protocol):
    """Where a worker's batches come from."""

    planned: int
    """The clock at which the batches end; 0 where that is not known."""

    refreshed: Callable[[], None]
    """Called when the weights may have been brought up to date between two batches."""

    @property
    def examples(self) -> int:
        """How many examples the batch has that the next step is of; 0 before the first."""
        ...

    def stepped(self, clock: int) -> None:
        """Note that a step was done, and with it ``clock`` in all."""
        ...

    share: int
    """How many examples of its next step are this worker's, where batches are made for that; else 0."""
    idle: Callable[[], None]
    """Called to take a step of which this worker has no share."""
    epoch: int
    """How many steps an epoch of the batches has; 0 where that is not known."""

    @property
    def ahead(self) -> bool:
        """Whether there are batches that were taken and have had no step yet."""
        ...

    def begin(self, clock: int, model: Parameters, published: Callable[[int], None] = ignore) -> None:
        """Train this model from now on, without the batches of the clocks before this one: others have done those.

        ``published`` is called with a federated version whenever the model is what the servers have as that.
        """
        ...

    def batches(
        self,
        data: Any,
        batch_size: int | None,
        epochs: int,
        shuffle: bool,
        prefetch: int = 0,
    ) -> Iterator[Any]:
        """Yield this worker's batches. Raises DataError at the call."""
        ...

    def note(self, samples: float, metrics: Mapping[str, Any]) -> bool:
        """Take a step's metrics; return whether the step has no line of its own in the record."""
        ...

    def goes_on_without(self, why: str) -> bool:
        """Whether training goes on although a gradient cannot be applied, without the round that it is part of."""
        ...
