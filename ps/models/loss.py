"""Softmax cross-entropy: the loss of every model here."""

from __future__ import annotations

from typing import Any

from ps.errors import UsageError
from ps.xp import Array


def cross_entropy(xp: Any, logits: Array, y: Array) -> tuple[float, Array]:
    """Return the mean of ``-log softmax(logits)[y]`` over the batch, and its gradient by the logits.

    ``logits`` is (n, classes), ``y`` holds n integer classes. The largest logit of each example is subtracted
    first, so that no exponential overflows. UsageError when there is not one label for each example.
    """
    n = len(logits)
    if n == 0 or y.shape != (n,):
        raise UsageError(f"expected one label for each of {n} examples, got labels of shape {tuple(y.shape)}")
    losses, grad = each(xp, logits, y)
    grad /= n
    return float(losses.sum() / n), grad


def each(xp: Any, logits: Array, y: Array) -> tuple[Array, Array]:
    """Return the loss of every example, and the gradient of their sum by the logits, (n, classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    picked = xp.arange(len(logits)), y
    grad = xp.exp(shifted)
    total = grad.sum(axis=1, keepdims=True)
    losses = xp.log(total[:, 0]) - shifted[picked]
    grad /= total
    grad[picked] -= 1
    return losses, grad
