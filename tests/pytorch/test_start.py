"""Promise: a process that trains a torch model does not load torch's compiler for it, which takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

TRAINS = """
import sys
import torch
import ps, ps.torch
model = torch.nn.Linear(3, 2)
with ps.connect(optimizer="sgd:lr=0.1") as kv:
    optimizer = ps.torch.DistributedOptimizer(model, kv)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        schedule.step()
print("torch._dynamo" in sys.modules, all(p.grad is not None for p in model.parameters()))
optimizer.zero_grad()
print(all(p.grad is None for p in model.parameters()))
"""


@pytest.mark.e2e
def test_training_loads_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "True", "True"]), done.stderr
