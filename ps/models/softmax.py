"""Softmax regression: one linear layer. Convex, so every mode must reach the same optimum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ps.errors import UsageError
from ps.models import dense, evaluate, initial, loss
from ps.models.evaluate import Grads, Params, Ready
from ps.xp import Array


def init(sizes: Sequence[int], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return fresh float32 parameters for ``[features, classes]``."""
    if len(sizes) != 2:
        raise UsageError(f"softmax regression has two sizes, [features, classes], not {list(sizes)}")
    features, classes = sizes
    rng = np.random.default_rng(seed)
    return {
        "layer0/weight": initial.glorot(rng, features, classes),
        "layer0/bias": initial.zeros(classes),
    }


def logits(params: Params, x: Array) -> Array:
    """Return the scores (n, classes) of a batch (n, features)."""
    _, x = evaluate.enter(params, x)
    return dense.forward(evaluate.flatten(x), params["layer0/weight"], params["layer0/bias"])


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
    x = evaluate.flatten(x)
    scores = dense.forward(x, params["layer0/weight"], params["layer0/bias"])
    value, d = loss.cross_entropy(xp, scores, y)
    weight, bias = dense.parameter_grads(x, d)
    grads: Grads = {"layer0/weight": weight, "layer0/bias": bias}
    evaluate.announce(ready, grads, *grads)
    return value, grads
