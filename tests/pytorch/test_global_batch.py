"""--global-batch with a torch module: each backward pass is of a part of the step, which is that of torch alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn

from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer
from ps.worker import KV
from support.torch_reference import seeded

Start = Callable[..., LocalCluster]

X = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)
Y = np.random.default_rng(2).standard_normal((40, 3)).astype(np.float32)


def net() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def train(kv: KV, *, overlap: bool) -> dict[str, Any]:
    model = net()
    optimizer = DistributedOptimizer(model, kv, overlap=overlap)
    for x, y in kv.batches((X, Y), batch_size=5, epochs=3):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    kv.barrier()
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def reference() -> dict[str, Any]:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(3):
        order = np.random.default_rng((0, epoch)).permutation(40)
        for at in range(0, 40, 16):
            picks = order[at : at + 16]
            optimizer.zero_grad()
            nn.functional.mse_loss(model(torch.from_numpy(X[picks])), torch.from_numpy(Y[picks])).backward()
            optimizer.step()
    return {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_come_to_what_torch_alone_does(loopback: Start, workers: int, *, overlap: bool) -> None:
    cluster = loopback(workers=workers, optimizer="adam:lr=0.01", global_batch=16)
    found, expected = cluster.run(*[partial(train, overlap=overlap)] * workers), reference()
    for each in found:
        for name, value in expected.items():
            np.testing.assert_allclose(each[name], value, atol=2e-5)
