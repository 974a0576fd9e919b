"""What tests of pipelines share: a batch, and training in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ps
from ps.models import softmax_cross_entropy
from ps.xp import HostArray
from support.fixtures import local as local

Train = Callable[..., dict[str, HostArray]]
SIZES = [6, 16, 16, 16, 16, 4]
"""Of a perceptron of five layers."""


@pytest.fixture
def batch() -> tuple[HostArray, HostArray]:
    random = np.random.default_rng(0)
    return random.standard_normal((22, 6), np.float32), random.integers(0, 4, 22)


@pytest.fixture
def train(alone: None, batch: Any) -> Train:
    """Returns a function that trains layers for some steps, and returns the parameters."""

    def run(layers: Any, *, microbatches: int = 5, steps: int = 4, kinds: Any = None, job: Any = (), **how: Any) -> Any:
        pipe = ps.Pipeline(layers, how.pop("loss", softmax_cross_entropy), **how)
        with ps.connect(optimizer="adam:lr=0.01", **dict(job)) as kv:
            pipe.init(kv, seed=3, kinds=kinds)
            x, y = batch
            for step in range(steps):
                assert np.isfinite(pipe.step(x[: 22 - step], y[: 22 - step], microbatches=microbatches))
            return {name: np.array(value) for name, value in kv.params.items()}

    return run


def same(one: dict[str, HostArray], other: dict[str, HostArray]) -> None:
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
