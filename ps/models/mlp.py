"""The multilayer perceptron: linear layers with ReLU between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ps.errors import UsageError
from ps.models import dense, evaluate, initial, loss
from ps.models.dense_layer import DenseLayer
from ps.models.evaluate import Grads, Params, Ready
from ps.xp import Array


def init(sizes: Sequence[int], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return fresh float32 parameters for ``[features, hidden..., classes]``.

    They are named layer0/weight, layer0/bias, layer1/weight and so on; a weight is (inputs, outputs).
    """
    if len(sizes) < 2:
        raise UsageError(f"a perceptron needs at least two sizes, [features, classes], not {list(sizes)}")
    rng = np.random.default_rng(seed)
    params: dict[str, NDArray[np.float32]] = {}
    last = len(sizes) - 2
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weight = initial.he(rng, inputs, (inputs, outputs)) if i < last else initial.glorot(rng, inputs, outputs)
        params[f"layer{i}/weight"] = weight
        params[f"layer{i}/bias"] = initial.zeros(outputs)
    return params


def stages(sizes: Sequence[int]) -> list[DenseLayer]:
    """Return the same model as a list of layers, for ``ps.Pipeline``: their tensors are 0.weight, 0.bias and so on."""
    if len(sizes) < 2:
        raise UsageError(f"a perceptron needs at least two sizes, [features, classes], not {list(sizes)}")
    last = len(sizes) - 2
    return [DenseLayer(inputs, outputs, i < last) for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes))]


def logits(params: Params, x: Array) -> Array:
    """Return the scores (n, classes) of a batch (n, features)."""
    xp, x = evaluate.enter(params, x)
    return _forward(xp, params, x)[-1]


def predict(params: Params, x: Array) -> Array:
    """Return the likeliest class of every example: n integers on the parameters' device."""
    return logits(params, x).argmax(axis=1)


def accuracy(params: Params, data: Iterable[Array], batch_size: int = 1000) -> float:
    """Return the share of ``data`` (a Dataset or a pair x, y) that is classified rightly, from 0 to 1."""
    return evaluate.accuracy(logits, params, data, batch_size)


def loss_and_grad(params: Params, x: Array, y: Array, ready: Ready | None = None) -> tuple[float, Grads]:
    """Return the mean cross-entropy over a batch and its gradient by every parameter.

    ``x`` is (n, features), ``y`` n integer classes, both on the parameters' device; UsageError otherwise.
    ``ready``, if given, is called with each tensor's name and gradient once neither is needed any more, the last
    layer first: ``kv.ready`` sends them meanwhile.
    """
    xp, x = evaluate.enter(params, x)
    *inputs, scores = _forward(xp, params, x)
    value, d = loss.cross_entropy(xp, scores, y)
    grads: Grads = dict.fromkeys(params)
    for i, below in reversed(list(enumerate(inputs))):
        grads[f"layer{i}/weight"], grads[f"layer{i}/bias"] = dense.parameter_grads(below, d)
        if i > 0:
            d = dense.input_grad(params[f"layer{i}/weight"], d)
            d *= below > 0
        evaluate.announce(ready, grads, f"layer{i}/weight", f"layer{i}/bias")
    return value, grads


def _forward(xp: Any, params: Params, x: Array) -> list[Array]:
    """Return the input of every layer and, last, the scores."""
    values = [evaluate.flatten(x)]
    last = len(params) // 2 - 1
    for i in range(last + 1):
        out = dense.forward(values[-1], params[f"layer{i}/weight"], params[f"layer{i}/bias"])
        values.append(xp.maximum(out, 0) if i < last else out)
    return values
