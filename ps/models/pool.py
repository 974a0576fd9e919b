"""Max pooling over 2 x 2 windows of images laid out as (height, n, width, channels)."""

from __future__ import annotations

from typing import Any

from ps.xp import Array

_WINDOW = [(slice(i, None, 2), slice(None), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)]


def forward(xp: Any, x: Array) -> Array:
    """Return the maximum of every window; height and width must be even."""
    a, b, c, d = (x[at] for at in _WINDOW)
    return xp.maximum(xp.maximum(a, b), xp.maximum(c, d))


def input_grad(xp: Any, x: Array, out: Array, d: Array) -> Array:
    """Return the gradient of ``x``: each window's ``d`` goes to the first of its maxima."""
    grad = xp.empty(x.shape, d.dtype)
    free = xp.ones(out.shape, bool)
    for at in _WINDOW:
        hit = x[at] == out
        hit &= free
        grad[at] = hit * d
        free ^= hit
    return grad
