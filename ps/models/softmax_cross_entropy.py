"""SoftmaxCrossEntropy: the loss of the models here, for a pipeline: its sum, and what it is averaged over."""

from __future__ import annotations

from collections.abc import Sequence

from ps import xp
from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.models import loss
from ps.xp import Array


@dataclass(frozen=True, slots=True)
class SoftmaxCrossEntropy:
    """The mean is over all labels but those that are ignored, each as much as its class weighs."""

    ignore: int | None = None
    """A label that does not count, as those of padding."""
    class_weights: Sequence[float] | None = None

    def weight(self, y: Array) -> float:
        """Return how many labels count, or the sum of their classes' weights."""
        return float(self._weights(y).sum()) if self._weighs else float(y.size)

    def __call__(self, output: Array, y: Array) -> tuple[float, Array]:
        """Return the sum of ``-log softmax(output)[y]``, and its gradient by ``output``.

        ``output`` is (..., classes) and ``y`` (...) integer classes; UsageError otherwise.
        """
        if tuple(output.shape[:-1]) != tuple(y.shape):
            raise UsageError(f"expected one label for each of {list(output.shape[:-1])}, got {list(y.shape)}")
        space = xp.namespace(output, y)
        flat, labels = output.reshape(-1, output.shape[-1]), y.reshape(-1)
        if self.ignore is not None:
            labels = space.where(labels == self.ignore, 0, labels)
        losses, grad = loss.each(space, flat, labels)
        if self._weighs:
            weights = self._weights(y).reshape(-1).astype(losses.dtype)
            losses, grad = losses * weights, grad * weights[:, None]
        return float(losses.astype("float64").sum()), grad.reshape(output.shape)  # in float16 it ends at 65504

    @property
    def _weighs(self) -> bool:
        return self.ignore is not None or self.class_weights is not None

    def _weights(self, y: Array) -> Array:
        space = xp.namespace(y)
        counts = space.ones(y.shape) if self.ignore is None else (y != self.ignore).astype("float64")
        if self.class_weights is None:
            return counts
        labels = y if self.ignore is None else space.where(y == self.ignore, 0, y)
        return counts * space.asarray(self.class_weights, "float64")[labels]


softmax_cross_entropy = SoftmaxCrossEntropy()
"""Over all labels."""
