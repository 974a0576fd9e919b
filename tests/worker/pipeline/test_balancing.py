"""Promises of ``--stages auto``: all have one cut, by measured time or by bytes, and the bits of one process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from ps.errors import PSError, UsageError
from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.testing import LocalCluster
from ps.worker import KV
from support.pipeline_layers import Linear

Start = Callable[..., LocalCluster]
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((32, 6), np.float32), RANDOM.integers(0, 4, 32)


class Slow(Linear):
    """A layer that takes its time."""

    def forward(self, params: Mapping[str, Any], x: Any) -> tuple[Any, Any]:
        time.sleep(0.02)
        return super().forward(params, x)


def script(kv: KV, sample: Any = None, **pipeline: Any) -> tuple[tuple[int, ...], dict[str, Any], float]:
    layers = [Slow(6, 4), *mlp.stages([4, 4, 64, 4]), Linear(4, 4)]
    pipe = Pipeline(layers, softmax_cross_entropy, **pipeline)
    pipe.init(kv, sample=sample)
    loss = pipe.step(X, Y, microbatches=2)
    return pipe.cut.starts, {name: np.array(value) for name, value in kv.params.items()}, loss


@pytest.mark.parametrize(("sample", "starts"), [((X[:16], Y[:16]), (1,)), (None, (3,))])
def test_all_workers_have_one_cut_and_the_bits_are_those_of_one_process(
    loopback: Start, local: Callable[..., KV], caplog: pytest.LogCaptureFixture, sample: Any, starts: tuple[int, ...]
) -> None:
    caplog.set_level(logging.WARNING, "ps.worker")
    found = loopback(mode="pipeline", workers=4, stages=0, pipeline_workers=2).run(*[lambda kv: script(kv, sample)] * 4)
    assert {cut for cut, _, _ in found} == {starts}
    _, expected, _ = script(local())
    tensors = {name: value for _, params, _ in found for name, value in params.items()}
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[name], expected[name]) for name in expected)
    said = [record.getMessage() for record in caplog.records if "the model is cut" in record.getMessage()]
    assert len(said) == 1
    assert ("by how long" in said[0]) == (sample is not None)
    assert f"stage 1: layers {starts[0]} to 4, " in said[0]


@pytest.mark.parametrize(
    ("sample", "how", "said"),
    [
        (None, {"cuts": [2]}, "the script cuts the model into 2 stages: leave cuts out, or --stages auto"),
        (X, {}, "sample is a pair x, y like a micro-batch, not a ndarray"),
        ((X[:, :3], Y), {}, r"layer 0 \(Slow\) has w .* and was given float32\[32, 3\]"),
    ],
)
def test_what_cannot_be_balanced_is_refused_by_name_and_nobody_waits(
    loopback: Start, sample: Any, how: dict[str, Any], said: str
) -> None:
    errors: list[PSError] = []

    def refused(kv: KV) -> None:
        with pytest.raises(PSError) as caught:
            script(kv, sample, **how)
        errors.append(caught.value)
        raise caught.value

    with pytest.raises(PSError):
        loopback(mode="pipeline", workers=2, stages=0).run(refused, refused)
    assert any(isinstance(error, UsageError) for error in errors)
    assert any(pytest.RaisesExc(PSError, match=said).matches(error) for error in errors)
