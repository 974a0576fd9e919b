"""The 2-D convolution (stride 1, odd square kernel, zero padding that keeps the size) as matrix products.

Images are laid out as (height, n, width, channels). Only the kernel's width is unrolled into copies, a fifth
of the memory of the usual im2col for a 5x5 kernel: with the rows of an image side by side in one matrix row,
the k rows that meet the kernel at height h are the column block [h * depth, (h + k) * depth), which BLAS takes
as it lies. The gradient of the input is itself a convolution, so nothing is ever scattered back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ps.xp import Array


def unroll(xp: Any, x: Array, k: int) -> Array:
    """Return images (h, n, w, c), padded and unrolled for a kernel of k x k, as (n * w, (h + k - 1) * k * c)."""
    height, n, width, channels = x.shape
    p = k // 2
    out = xp.empty((n, width, height + 2 * p, k, channels), x.dtype)
    out[:, :, :p] = out[:, :, p + height :] = 0
    x = x.transpose(1, 2, 0, 3)
    for j in range(k):
        left, right = max(0, p - j), min(width, width + p - j)
        out[:, left:right, p : p + height, j] = x[:, left + j - p : right + j - p]
        out[:, :left, p : p + height, j] = out[:, right:, p : p + height, j] = 0
    return out.reshape(n * width, -1)


def forward(xp: Any, unrolled: Array, weight: Array, bias: Array, size: tuple[int, ...]) -> Array:
    """Return the convolution with ``weight`` (k, k, c, outputs) for ``size`` = (h, n, w), plus the bias."""
    out = _convolve(xp, unrolled, weight, size[0])
    out += bias
    return out.reshape(*size, -1)


def parameter_grads(unrolled: Array, weight: Array, d: Array) -> tuple[Array, Array]:
    """Return the gradients of weight and bias, given the output's gradient ``d`` (h, n, w, outputs)."""
    rows = d.reshape(len(d), -1, d.shape[-1])
    products = (block.T @ row for block, row in zip(_blocks(unrolled, weight, len(d)), rows, strict=True))
    total = next(products)
    for product in products:
        total += product
    return total.reshape(weight.shape), d.sum(axis=(0, 1, 2))


def input_grad(xp: Any, weight: Array, d: Array) -> Array:
    """Return the gradient of the input: ``d`` convolved with the kernel turned by 180 degrees."""
    turned = weight[::-1, ::-1].transpose(0, 1, 3, 2)
    return _convolve(xp, unroll(xp, d, len(weight)), turned, len(d)).reshape(*d.shape[:3], -1)


def _convolve(xp: Any, unrolled: Array, weight: Array, height: int) -> Array:
    kernel = weight.reshape(-1, weight.shape[-1])
    out = xp.empty((height, len(unrolled), weight.shape[-1]), unrolled.dtype)
    for row, block in zip(out, _blocks(unrolled, weight, height), strict=True):
        xp.matmul(block, kernel, out=row)
    return out


def _blocks(unrolled: Array, weight: Array, height: int) -> Iterator[Array]:
    """Yield, for each row of the output, the columns (n * w, k * k * c) that the kernel meets there."""
    k, _, channels, _ = weight.shape
    depth = k * channels
    return (unrolled[:, h * depth : (h + k) * depth] for h in range(height))
