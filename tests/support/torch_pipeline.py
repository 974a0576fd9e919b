"""A small torch model, trained as a pipeline and by torch alone, and its batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import ps.torch
from support.torch_net import Local
from support.torch_reference import seeded

HOW = [
    {},
    {"cuts": 3},
    {"cuts": 4, "schedule": "zero-bubble"},
    {"cuts": 4, "schedule": "interleaved", "recompute": True},
]


def net(*more: nn.Module) -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), *more, nn.LayerNorm(16), nn.Linear(16, 4))


def batches(steps: int, examples: int = 22) -> list[tuple[Any, Any]]:
    numbers = torch.Generator().manual_seed(1)
    return [
        (torch.randn(examples, 6, generator=numbers), torch.randint(4, (examples,), generator=numbers))
        for _ in range(steps)
    ]


def alone(model: nn.Module, data: Any, loss: Any, lr: float) -> tuple[dict[str, np.ndarray], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for x, y in data:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
    return {name: each.detach().numpy().copy() for name, each in model.state_dict().items()}, float(value.detach())


def piped(
    local: Local, model: Any, data: Any, loss: Any, lr: float = 0.05, microbatches: int = 1, **how: Any
) -> tuple[dict[str, np.ndarray], float]:
    pipe = ps.torch.Pipeline(model, loss, **how)
    with local(optimizer=f"momentum:lr={lr},momentum=0.9") as kv:
        pipe.init(kv, seed=7)
        for x, y in data:
            value = pipe.step(x, y, microbatches=microbatches)
        return {name: np.array(each) for name, each in kv.params.items()}, value
