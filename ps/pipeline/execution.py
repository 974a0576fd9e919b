"""Execution: how the stages of a pipeline are executed: in one process, or each by a worker of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Execution(Protocol):
    """What ``Pipeline`` calls."""

    @property
    def feeds(self) -> bool:
        """Whether batches go in here; else another worker has them, and says all that is to be known of them."""
        ...

    @property
    def places(self) -> Sequence[int]:
        """The places of the layers that are executed here."""
        ...

    def init(self, kinds: Mapping[str, str] | None, groups: Mapping[str, Mapping[str, Any]] | None) -> Any:
        """Give the first values to the job; return the parameters that are here."""
        ...

    def step(
        self,
        xs: list[Any],
        ys: list[Any],
        weight: float,
        microbatches: int,
        *,
        examples: int,
        check: bool,
        metrics: Mapping[str, Any],
    ) -> float:
        """Train on one batch, cut already; return its mean loss."""
        ...

    def follow(self, metrics: Mapping[str, Any]) -> float:
        """Do this worker's part in training on a batch that goes in elsewhere; return its mean loss."""
        ...

    def outputs(self, x: Any, params: Mapping[str, Any] | None) -> Any:
        """Return what the model gives for a batch."""
        ...
