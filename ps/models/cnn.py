"""The convolutional network of the FedAvg paper: two 5x5 convolutions, each with ReLU and pooling, two layers.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017
(arXiv:1602.05629): 32 and 64 channels, 2x2 max pooling, 512 hidden units; 1,663,370 parameters for MNIST.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.models import conv, dense, evaluate, initial, loss, pool
from ps.models.convolution_layer import ConvolutionLayer
from ps.models.dense_layer import DenseLayer
from ps.models.evaluate import Grads, Params, Ready
from ps.xp import Array

_KERNEL = 5
_CHANNELS = (32, 64)
_HIDDEN = 512


def init(seed: int = 0, classes: int = 10, image: tuple[int, ...] = (28, 28)) -> dict[str, NDArray[np.float32]]:
    """Return fresh float32 parameters for images of ``(height, width)`` or ``(height, width, channels)``.

    Height and width must be multiples of 4, UsageError otherwise. A kernel is (5, 5, inputs, outputs).
    """
    height, width, channels = _size(image)
    rng = np.random.default_rng(seed)
    params: dict[str, NDArray[np.float32]] = {}
    for i, outputs in enumerate(_CHANNELS):
        shape = (_KERNEL, _KERNEL, channels, outputs)
        params[f"conv{i}/weight"] = initial.he(rng, _KERNEL * _KERNEL * channels, shape)
        params[f"conv{i}/bias"] = initial.zeros(outputs)
        channels = outputs
    features = height // 4 * (width // 4) * channels
    params["dense0/weight"] = initial.he(rng, features, (features, _HIDDEN))
    params["dense0/bias"] = initial.zeros(_HIDDEN)
    params["dense1/weight"] = initial.glorot(rng, _HIDDEN, classes)
    params["dense1/bias"] = initial.zeros(classes)
    return params


def stages(classes: int = 10, image: tuple[int, ...] = (28, 28)) -> list[Any]:
    """Return the same model as a list of layers, for ``ps.Pipeline``: a convolution each, and the two linear ones.

    Height and width must be multiples of 4, UsageError otherwise.
    """
    height, width, channels = _size(image)
    first, second = _CHANNELS
    return [
        ConvolutionLayer(channels, first, _KERNEL, image=(height, width)),
        ConvolutionLayer(first, second, _KERNEL, flat=True),
        DenseLayer(height // 4 * (width // 4) * second, _HIDDEN, relu=True),
        DenseLayer(_HIDDEN, classes),
    ]


def logits(params: Params, x: Array) -> Array:
    """Return the scores (n, classes) of images (n, height, width[, channels]), or (n, side * side) flat."""
    xp, x = evaluate.enter(params, x)
    return _forward(xp, params, x).scores


def predict(params: Params, x: Array) -> Array:
    """Return the likeliest class of every example: n integers on the parameters' device."""
    return logits(params, x).argmax(axis=1)


def accuracy(params: Params, data: Iterable[Array], batch_size: int = 250) -> float:
    """Return the share of ``data`` (a Dataset or a pair x, y) that is classified rightly, from 0 to 1."""
    return evaluate.accuracy(logits, params, data, batch_size)


def loss_and_grad(params: Params, x: Array, y: Array, ready: Ready | None = None) -> tuple[float, Grads]:
    """Return the mean cross-entropy over a batch and its gradient by every parameter.

    ``x`` is as in ``logits``, ``y`` n integer classes, both on the parameters' device; UsageError otherwise.
    ``ready``, if given, is called with each tensor's name and gradient once neither is needed any more, the last
    layer first: ``kv.ready`` sends them meanwhile.
    """
    xp, x = evaluate.enter(params, x)
    seen = _forward(xp, params, x)
    value, d = loss.cross_entropy(xp, seen.scores, y)
    grads: Grads = dict.fromkeys(params)

    grads["dense1/weight"], grads["dense1/bias"] = dense.parameter_grads(seen.hidden, d)
    d = dense.input_grad(params["dense1/weight"], d)
    d *= seen.hidden > 0
    evaluate.announce(ready, grads, "dense1/weight", "dense1/bias")
    grads["dense0/weight"], grads["dense0/bias"] = dense.parameter_grads(seen.flat, d)
    d = dense.input_grad(params["dense0/weight"], d)
    evaluate.announce(ready, grads, "dense0/weight", "dense0/bias")

    rows, n, columns, channels = seen.blocks[-1].out.shape
    d = d.reshape(n, rows, columns, channels).transpose(1, 0, 2, 3).copy()
    for i in reversed(range(len(seen.blocks))):
        block = seen.blocks[i]
        d = d * (block.out > 0)
        d = pool.input_grad(xp, block.full, block.out, d)
        weight = params[f"conv{i}/weight"]
        grads[f"conv{i}/weight"], grads[f"conv{i}/bias"] = conv.parameter_grads(block.unrolled, weight, d)
        if i > 0:
            d = conv.input_grad(xp, weight, d)
        evaluate.announce(ready, grads, f"conv{i}/weight", f"conv{i}/bias")
    return value, grads


@dataclass(frozen=True, slots=True)
class _Block:
    """What a convolution's backward pass needs: its unrolled input, its output before and after pooling."""

    unrolled: Array
    full: Array
    out: Array


@dataclass(frozen=True, slots=True)
class _Seen:
    blocks: list[_Block]
    flat: Array
    hidden: Array
    scores: Array


def _forward(xp: Any, params: Params, x: Array) -> _Seen:
    x = _images(x, params["conv0/weight"].shape[2])
    blocks = []
    for i in range(len(_CHANNELS)):
        weight = params[f"conv{i}/weight"]
        unrolled = conv.unroll(xp, x, len(weight))
        full = conv.forward(xp, unrolled, weight, params[f"conv{i}/bias"], x.shape[:3])
        # ReLU after pooling gives the same values as before it, on a quarter of the elements.
        x = xp.maximum(pool.forward(xp, full), 0)
        blocks.append(_Block(unrolled, full, x))
    flat = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    hidden = xp.maximum(dense.forward(flat, params["dense0/weight"], params["dense0/bias"]), 0)
    return _Seen(blocks, flat, hidden, dense.forward(hidden, params["dense1/weight"], params["dense1/bias"]))


def _size(image: tuple[int, ...]) -> tuple[int, ...]:
    """Return height, width and channels. Raises UsageError for what cannot be pooled twice."""
    height, width, channels = (*image, 1)[:3]
    if len(image) not in (2, 3) or height % 4 or width % 4:
        raise UsageError(f"the CNN pools twice: an image needs sides that are multiples of 4, not {image}")
    return height, width, channels


def _images(x: Array, channels: int) -> Array:
    """Return a batch as (height, n, width, channels), the layout of the convolutions."""
    if x.ndim == 2:
        side = math.isqrt(x.shape[1] // channels)
        if side * side * channels != x.shape[1]:
            raise UsageError(
                f"{x.shape[1]} features are no square image of {channels} channel(s): shape x as (n, h, w)"
            )
        x = x.reshape(-1, side, side, channels)
    return x.reshape(*x.shape[:3], channels).transpose(1, 0, 2, 3)
