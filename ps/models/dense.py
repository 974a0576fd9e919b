"""The fully connected layer, forward and backward."""

from __future__ import annotations

from ps.xp import Array


def forward(x: Array, weight: Array, bias: Array) -> Array:
    """Return ``x @ weight + bias``: (n, inputs) and (inputs, outputs) give (n, outputs)."""
    out = x @ weight
    out += bias
    return out


def parameter_grads(x: Array, d: Array) -> tuple[Array, Array]:
    """Return the gradients of weight and bias, given the layer's input and its output's gradient ``d``."""
    return x.T @ d, d.sum(axis=0)


def input_grad(weight: Array, d: Array) -> Array:
    """Return the gradient of the layer's input, given its output's gradient ``d``."""
    return d @ weight.T
