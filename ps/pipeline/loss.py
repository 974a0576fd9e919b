"""What a pipeline asks of a loss: its sum, and what it is averaged over."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from ps.dataclass import dataclass
from ps.errors import UsageError


@runtime_checkable
class PipelineLoss(Protocol):
    """A loss over micro-batches. Their sums are added up and divided by the weight of the whole batch, so that every
    number of micro-batches gives the loss and the gradient of the whole."""

    def weight(self, y: Any) -> float:
        """Return what the loss of some examples is divided by to be a mean: how many they are, how many of their tokens
        count, or the sum of their classes' weights. It is known by the labels alone."""
        ...

    def __call__(self, output: Any, y: Any) -> tuple[float, Any]:
        """Return the sum of the loss over some examples, and the gradient of that sum by the output."""
        ...


@dataclass(frozen=True, slots=True)
class SummedLoss:
    """A loss made of two functions: ``SummedLoss(squared, weight=len)``."""

    function: Callable[[Any, Any], tuple[Any, Any]]
    """Returns the sum over the examples, and its gradient by the output."""
    of: Callable[[Any], float] = len
    """Returns the weight of labels: as many as there are, unless said otherwise."""

    def weight(self, y: Any) -> float:
        return float(self.of(y))

    def __call__(self, output: Any, y: Any) -> tuple[float, Any]:
        value, gradient = self.function(output, y)
        return value, gradient


def demand_loss(loss: Any) -> PipelineLoss:
    """Return a loss. Raises UsageError for one that does not say what it averages over."""
    if not (isinstance(loss, PipelineLoss) and callable(loss.weight)):
        raise UsageError(
            f"the loss {getattr(loss, '__name__', type(loss).__name__)} does not say what it averages over, so its "
            f"micro-batches cannot be combined: give ps.pipeline.SummedLoss(f, of=len), where f(output, y) returns the "
            f"sum of the loss over the examples and the gradient of that sum, and of(y) what the sum is divided by; or "
            f"ps.models.softmax_cross_entropy"
        )
    return loss


def weight_of(loss: PipelineLoss, y: Any) -> float:
    """Return the weight of a batch, checked. Raises UsageError for what is none."""
    weight = float(loss.weight(y))
    if not math.isfinite(weight) or weight < 0:
        raise UsageError(f"a batch's weight is a number of at least 0, and the loss says {weight}")
    return weight
