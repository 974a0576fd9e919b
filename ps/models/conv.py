"""The 2-D convolution (stride 1, odd square kernel, zero padding that keeps the size) as matrix products.

Images are laid out as (height, n, width, channels). With the height outermost, the rows that one kernel row
meets are one contiguous block, so only the kernel's width has to be unrolled into copies: a fifth of the
memory of the usual im2col for a 5x5 kernel, which decides the speed where memory is slow. The gradient of the
input is itself a convolution, so nothing is ever scattered back.
"""

from __future__ import annotations

from typing import Any

from ps.xp import Array

_FEW = 8
"""With fewer input channels than this the kernel's rows are unrolled too: the products would be too thin."""


def unroll(xp: Any, x: Array, k: int) -> Array:
    """Return the padded patches of ``x`` (h, n, w, c) that a ``k`` x ``k`` kernel meets.

    The result is (h + k - 1, n, w, k * c), one row of the kernel at a time, or, for few channels,
    (h, n, w, k * k * c), the whole kernel at once. Both fit ``forward`` and ``parameter_grads``.
    """
    height, _, width, channels = x.shape
    p = k // 2
    padded = xp.pad(x, ((p, p), (0, 0), (p, p), (0, 0)))
    rows = xp.concatenate([padded[:, :, j : j + width] for j in range(k)], axis=-1)
    if channels >= _FEW:
        return rows
    return xp.concatenate([rows[i : i + height] for i in range(k)], axis=-1)


def forward(patches: Array, weight: Array, bias: Array) -> Array:
    """Return the convolution (h, n, w, outputs) of unrolled patches with ``weight`` (k, k, c, outputs)."""
    out = _convolve(patches, weight)
    out += bias
    return out


def parameter_grads(xp: Any, patches: Array, d: Array, k: int) -> tuple[Array, Array]:
    """Return the gradients of weight and bias, given the output's gradient ``d`` (h, n, w, outputs)."""
    height, outputs = d.shape[0], d.shape[-1]
    flat = d.reshape(-1, outputs)
    steps = patches.shape[0] - height + 1
    parts = [patches[i : i + height].reshape(flat.shape[0], -1).T @ flat for i in range(steps)]
    return xp.concatenate(parts).reshape(k, k, -1, outputs), flat.sum(axis=0)


def input_grad(xp: Any, weight: Array, d: Array) -> Array:
    """Return the gradient of the input: ``d`` convolved with the kernel turned by 180 degrees."""
    turned = weight[::-1, ::-1].transpose(0, 1, 3, 2)
    return _convolve(unroll(xp, d, weight.shape[0]), turned)


def _convolve(patches: Array, weight: Array) -> Array:
    rows, n, width, depth = patches.shape
    kernel = weight.reshape(-1, depth, weight.shape[-1])
    height = rows - len(kernel) + 1
    blocks = (patches[i : i + height].reshape(-1, depth) for i in range(len(kernel)))
    out = next(blocks) @ kernel[0]
    for block, part in zip(blocks, kernel[1:], strict=True):
        out += block @ part
    return out.reshape(height, n, width, -1)
