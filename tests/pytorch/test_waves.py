"""Promise: a torch model over several workers, with steps that overlap, is that of one process: running statistics of
batch norm and dropout too, whenever it is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

import ps.torch
from ps.testing import LocalCluster
from ps.worker import KV
from support.torch_reference import seeded

Found = tuple[dict[str, np.ndarray], list[float], dict[int, float]]
NUMBERS = torch.Generator().manual_seed(1)
X, Y = torch.randn(64, 6, generator=NUMBERS).numpy(), torch.randint(4, (64,), generator=NUMBERS).numpy()


def train(kv: KV, *, recompute: bool) -> Found:
    with seeded(0):
        model = nn.Sequential(
            nn.Linear(6, 16),
            nn.BatchNorm1d(16),
            nn.Dropout(0.5),
            nn.Linear(16, 16),
            nn.BatchNorm1d(16),
            nn.Linear(16, 4),
        )
    pipe = ps.torch.Pipeline(model, nn.CrossEntropyLoss(), recompute=recompute)
    pipe.init(kv, seed=3)
    found: dict[int, float] = {}

    def measure(params: Any, data: Any) -> float:
        found[kv.clock] = pipe.loss(params, data)
        return found[kv.clock]

    kv.evaluate(measure, (X, Y))
    losses = [pipe.step(x, y, microbatches=3) for x, y in kv.batches((X, Y), batch_size=16, epochs=3)]
    return {name: np.array(value) for name, value in kv.params.items()}, losses, found


@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_with_buffers_is_that_of_one_process_whenever_it_is_measured(
    loopback: Callable[..., LocalCluster], local: Callable[..., KV], recompute: bool
) -> None:
    job = {"mode": "pipeline", "waves": 3, "eval_every": 1}
    params, losses, measured = train(local(**job), recompute=recompute)
    found = loopback(workers=3, **job).run(*[lambda kv: train(kv, recompute=recompute)] * 3)
    assert found[0][1:] == (losses, measured)
    assert len(measured) == 12
    whole = {name: value for own, *_ in found for name, value in own.items()}
    assert whole.keys() == params.keys()
    assert all(np.array_equal(whole[name], params[name]) for name in whole)
