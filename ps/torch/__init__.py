"""PyTorch models in a job: an optimizer whose steps are the servers', and each worker's share of a data set.

import torch
import ps.torch

with ps.connect(optimizer="adam:lr=1e-3") as kv:
    optimizer = ps.torch.DistributedOptimizer(model, kv)
    loader = DataLoader(data, batch_size=32, sampler=ps.torch.sampler(kv, data), generator=ps.torch.generator(kv))
    for x, y in loader:
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()

Nothing else in ps imports torch.
"""

from __future__ import annotations

try:
    import torch as torch
except ImportError as error:
    raise ImportError("ps.torch needs PyTorch: pip install 'paramserver[torch]'") from error

from ps.torch.device import device
from ps.torch.grad_scaler import GradScaler
from ps.torch.lightning import lightning_strategy
from ps.torch.optimizer import DistributedOptimizer
from ps.torch.pipeline import Pipeline
from ps.torch.prepare import prepare
from ps.torch.sampler import ShareSampler, generator, sampler
from ps.torch.stream import ShareStream, stream
from ps.torch.torch_loss import TorchLoss

__all__ = [
    "DistributedOptimizer",
    "GradScaler",
    "Pipeline",
    "ShareSampler",
    "ShareStream",
    "TorchLoss",
    "device",
    "generator",
    "lightning_strategy",
    "prepare",
    "sampler",
    "stream",
]
