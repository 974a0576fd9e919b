"""A small torch module, trained by torch alone and by a job, for tests of the adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer
from ps.worker import KV
from support.torch_reference import seeded

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
MODES = ["sync", "async", "ssp"]


def net(seed: int = 0) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def loss_of(model: nn.Module, step: int = 0) -> Any:
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(step))
    return (model(x) ** 2).mean()


def values(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.detach().clone().numpy() for name, parameter in model.named_parameters()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rtol: float = 1e-6) -> None:
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-7, err_msg=name)


def alone(steps: Callable[[nn.Module, torch.optim.Optimizer], None], lr: float = 0.1) -> dict[str, np.ndarray]:
    """Train with torch's own SGD."""
    model = net()
    steps(model, torch.optim.SGD(model.parameters(), lr=lr))
    return values(model)


def here(local: Local, steps: Callable[[nn.Module, torch.optim.Optimizer], None], **job: Any) -> dict[str, np.ndarray]:
    """Train with a job's."""
    model = net()
    steps(model, DistributedOptimizer(model, local(**{"optimizer": "sgd:lr=0.1", **job})))
    return values(model)


def whole(kv: KV) -> np.ndarray:
    """Return all of kv.grads as one flat array."""
    grads = list(kv.grads.values())
    return np.lib.stride_tricks.as_strided(grads[0].reshape(-1), (sum(each.size for each in grads),))
