"""Promise: a job's training is that of torch alone with the whole batch, and of torch DDP, on different data each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import ps.torch
from ps.testing import LocalCluster
from ps.worker import KV
from support import torch_reference as reference

Start = Callable[..., LocalCluster]
CLOSE = 1e-6
"""The norm of the difference of two models, of the norm of one."""


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm((a - b).double()) / torch.linalg.vector_norm(b.double()))


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What torch DDP ends with in each case: Gloo, two processes on this host."""
    folder = tmp_path_factory.mktemp("ddp")
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, reference.__file__]
    ranks = [subprocess.Popen([*command, str(rank), str(folder)], env=env) for rank in range(reference.WORKERS)]
    assert [rank.wait(100) for rank in ranks] == [0, 0]
    return torch.load(folder / "found.pt")


def job(loopback: Start, case: str, *, overlap: bool) -> list[torch.Tensor]:
    optimizer, settings, _ = reference.CASES[case]

    def script(kv: KV) -> torch.Tensor:
        net = reference.model()
        trained = ps.torch.DistributedOptimizer(reference.groups(case, net), kv, model=net, overlap=overlap)
        rate = reference.schedule(trained)
        for step in range(reference.STEPS):
            x, y = reference.part(step, kv.rank)
            trained.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            if case == "clipped":
                trained.clip_grad_norm_(reference.CLIP)
            trained.step()
            rate.step()
        return reference.flat(net)

    cluster = loopback(servers=2, workers=2, optimizer=optimizer, transport="auto", **settings)
    return cluster.run(script, script)


@pytest.mark.parametrize("overlap", [False, True], ids=["at once", "overlap"])
@pytest.mark.parametrize("case", reference.CASES)
def test_fifty_steps_of_a_job_are_those_of_torch_alone_and_of_ddp(
    loopback: Start, ddp: dict[str, torch.Tensor], case: str, overlap: bool
) -> None:
    first, second = job(loopback, case, overlap=overlap)
    assert torch.equal(first, second)
    net = reference.model()
    began = reference.flat(net)
    reference.train(case, net)
    alone = reference.flat(net)
    assert distance(alone, began) > 0.01
    assert distance(first, alone) < CLOSE
    assert distance(first, ddp[case]) < CLOSE
