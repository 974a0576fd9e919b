"""The fully connected layer, forward and backward."""

from __future__ import annotations

from ps import xp
from ps.xp import Array

BLOCK = 1 << 20


def forward(x: Array, weight: Array, bias: Array) -> Array:
    """Return ``x @ weight + bias``: (n, inputs) and (inputs, outputs) give (n, outputs)."""
    out = x @ weight
    out += bias
    return out


def parameter_grads(x: Array, d: Array) -> tuple[Array, Array]:
    """Return the gradients of weight and bias, given the layer's input and its output's gradient ``d``."""
    return x.T @ d, d.sum(axis=0)


def add_parameter_grads(x: Array, d: Array, weight: Array | None, bias: Array | None, *, fresh: bool) -> None:
    """Add the same to what is in ``weight`` and ``bias``, or put it there (``fresh``), in blocks of rows of ``BLOCK``
    bytes: beside the sums there is never all of it."""
    if bias is not None:
        bias[...] = d.sum(axis=0) if fresh else bias + d.sum(axis=0)
    if weight is None:
        return
    if fresh:
        xp.namespace(x).matmul(x.T, d, out=weight)
        return
    rows = max(1, BLOCK // max(1, weight.nbytes // len(weight)))
    for start in range(0, len(weight), rows):
        weight[start : start + rows] += x.T[start : start + rows] @ d


def input_grad(weight: Array, d: Array) -> Array:
    """Return the gradient of the layer's input, given its output's gradient ``d``."""
    return d @ weight.T
