"""Promises of waves in one process: what several workers would compute, so it is the reference for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ps
from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.worker import KV

Local = Callable[..., KV]
SIZES = [6, 5, 5, 4]
RANDOM = np.random.default_rng(0)
BATCHES = [(RANDOM.standard_normal((8, 6), np.float32), RANDOM.integers(0, 4, 8)) for _ in range(9)]


def train(kv: KV, **how: Any) -> tuple[dict[str, np.ndarray], list[float]]:
    pipe = Pipeline(mlp.stages(SIZES), softmax_cross_entropy, **how)
    pipe.init(kv, seed=3)
    losses = [pipe.step(x, y) for x, y in BATCHES]
    return {name: np.array(value) for name, value in kv.params.items()}, losses


@pytest.mark.parametrize("lookahead", [0.0, 1.5])
@pytest.mark.parametrize("waves", [2, 3, 20])
def test_each_wave_has_the_weights_of_so_many_updates_before(local: Local, waves: int, lookahead: float) -> None:
    kv = local(mode="pipeline", waves=waves, lookahead=lookahead, optimizer="sgd:lr=0.1")
    found, losses = train(kv, cuts=2)
    renamed = {f"layer{i}/{part}": f"{i}.{part}" for i in range(3) for part in ("weight", "bias")}
    first = Pipeline(mlp.stages(SIZES), softmax_cross_entropy).chain.init(3)
    history, expected = [{name: first[renamed[name]] for name in renamed}], []
    for wave, (x, y) in enumerate(BATCHES):
        version = max(0, wave - waves + 1)
        before, weights = history[max(0, version - 1)], history[version]
        ahead = {name: w + (w - before[name]) * np.float32(lookahead) for name, w in weights.items()}
        loss, grads = mlp.loss_and_grad(ahead, x, y)
        expected.append(loss)
        history.append({name: w - np.float32(0.1) * grads[name] for name, w in history[-1].items()})
    for name, other in renamed.items():
        np.testing.assert_allclose(found[other], history[-1][name], rtol=1e-5, atol=1e-7)
    assert losses == pytest.approx([expected[max(0, wave - waves + 1)] for wave in range(len(BATCHES))], rel=1e-5)


def test_one_wave_is_what_there_is_without_them(local: Local) -> None:
    found, losses = train(local(mode="pipeline", waves=1))
    expected, also = train(local())
    assert losses == also
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("how", [{"cuts": 3, "schedule": "zero-bubble"}, {"cuts": 2, "recompute": True}])
def test_bits_do_not_depend_on_the_cut(local: Local, how: dict[str, Any]) -> None:
    job = {"mode": "pipeline", "waves": 3, "clip_norm": 0.1, "optimizer": "adam:lr=0.05"}
    found, losses = train(local(**job), **how)
    expected, also = train(local(**job))
    assert losses == also
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_script_for_stages_on_several_workers_runs_alone(alone: None) -> None:
    with ps.connect(mode="pipeline", workers=8, stages=4, pipeline_workers=4, waves=2) as kv:
        assert len(train(kv)[1]) == len(BATCHES)
