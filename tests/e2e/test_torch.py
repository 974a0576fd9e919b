"""Promises: a torch script is started like any other, its loader processes do no harm, and no compiler is loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cluster import Process
from support.libraries import demand

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Command = Callable[..., Process]
SCRIPTS = Path(__file__).with_name("scripts")


def test_loader_processes_start_after_the_connection_and_draw_other_numbers_on_each_worker(forked: Command) -> None:
    demand("torch", "the script is about it")
    run = forked("run", "-s", 1, "-w", 2, SCRIPTS / "torch_loader.py", loaded=["torch"])
    assert run.wait(100) == 0, run.text
    batches = [line.partition("batch ")[2] for line in run.lines if "batch " in line]
    read = [(line.split()[:2], ast.literal_eval(line.split(" ", 2)[2].replace("] [", "], ["))) for line in batches]
    for epoch in "01":
        seen = [index for (_, number), (indices, _) in read if number == epoch for index in indices]
        assert sorted(seen) == list(range(40))
    drawn = [number for _, (_, numbers) in read for number in numbers]
    assert len(set(drawn)) == len(drawn) == 80
    ends = [line.partition("weights ")[2].split()[1:] for line in run.lines if "weights " in line]
    assert len(ends) == 2 and ends[0] == ends[1] and ends[0][1] == "8"


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


def test_training_loads_no_compiler_of_torch_which_takes_seconds() -> None:
    demand("torch", "it is about torch")
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "True", "True"]), done.stderr
