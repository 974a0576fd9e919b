"""A small model as a script trains it in a pipeline, and what comes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline, Tied
from ps.worker import KV
from support.pipeline_layers import Dropout, Linear, Transposed

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((96, 6), np.float32), RANDOM.integers(0, 4, 96)
Found = tuple[dict[str, np.ndarray], list[float]]


def layers(*, tied: bool = False, dropout: bool = False) -> list[Any]:
    if dropout:
        first, *rest = mlp.stages([6, 5, 5, 4])
        return [first, Dropout(), *rest]
    if not tied:
        return mlp.stages([6, 5, 5, 5, 5, 4])
    embed = Linear(6, 4)
    return [embed, Linear(4, 4), Linear(4, 6), Linear(6, 4), Tied(embed, Transposed(6, 4)), Linear(6, 4)]


def script(
    kv: KV,
    *,
    microbatches: int = 4,
    batch_size: int = 32,
    kinds: dict[str, str] | None = None,
    tied: bool = False,
    dropout: bool = False,
    **pipeline: Any,
) -> Found:
    pipe = Pipeline(layers(tied=tied, dropout=dropout), softmax_cross_entropy, **pipeline)
    pipe.init(kv, seed=3, kinds=kinds)
    losses = [
        pipe.step(x, y, microbatches=microbatches) for x, y in kv.batches((X, Y), batch_size=batch_size, epochs=3)
    ]
    return {name: np.array(value) for name, value in kv.params.items()}, losses


def stopped(kv: KV, at: int) -> int:
    """Train until worker 1 has training end behind its step ``at``; return the clock at which it did."""
    pipe = Pipeline(layers(), softmax_cross_entropy)
    pipe.init(kv)
    for step, (x, y) in enumerate(kv.batches((X, Y), batch_size=8, epochs=50)):
        pipe.step(x, y, microbatches=2)
        if kv.rank == 1 and step == at:
            kv.stop("enough")
    assert kv.stopped
    return kv.clock


def whole(found: list[Found]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for params, losses in found:
        for name, value in params.items():
            assert np.array_equal(tensors.setdefault(name, value), value), "what several have is one"
        assert losses == found[0][1]
    return tensors


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
