"""Promise: in an ordinary job each worker's pipeline takes its part of the step of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import ps
from ps.models import SoftmaxCrossEntropy, mlp
from ps.testing import LocalCluster
from support.fixtures import loopback as loopback


def parts(y: Any) -> Iterator[slice]:
    """Yield what each of two workers has of a batch: 15 examples and 7."""
    yield slice(0, 15)
    yield slice(15, 22)


def test_two_workers_with_ragged_batches_take_the_step_of_the_whole_by_weight(
    alone: None, loopback: Callable[..., LocalCluster], batch: Any
) -> None:
    x, y = batch
    y = np.where(np.arange(22) % 3 == 0, -1, y)
    loss = SoftmaxCrossEntropy(ignore=-1)

    def pipe() -> ps.Pipeline:
        return ps.Pipeline(mlp.stages([6, 8, 4]), loss, cuts=2)

    def train(kv: Any) -> Any:
        own = list(parts(y))[kv.rank]
        mine = pipe()
        mine.init(kv, seed=0)
        for _ in range(3):
            mine.step(x[own], y[own], microbatches=3)
        kv.barrier()
        return {name: np.array(value) for name, value in kv.params.items()}

    job = {"optimizer": "sgd:lr=0.1", "aggregator": "weighted"}
    found = loopback(workers=2, **job).run(train, train)
    whole = pipe()
    with ps.connect(**job) as kv:
        whole.init(kv, seed=0)
        for _ in range(3):
            whole.step(x, y)
        for name, value in kv.params.items():
            np.testing.assert_allclose(found[0][name], value, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(found[0][name], found[1][name])
