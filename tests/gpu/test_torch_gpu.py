"""Torch models on a CUDA device: a job's training is torch's own there, wherever the connection has its arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps import xp

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn
from torch.nn import functional

import ps.torch
from ps.errors import UsageError
from ps.testing import LocalCluster
from ps.worker import KV
from support import torch_reference as reference

torch.set_num_threads(1)  # the workers of a test are threads of one process, and would wait for each other

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        xp.cupy() is None or not torch.cuda.is_available(), reason="no CUDA device for torch, or no cupy"
    ),
]

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
CUDA = torch.device("cuda", 0)
CLOSE = 1e-6
WHERE = pytest.mark.parametrize("where", ["cpu", "cuda"])
"""Where the connection's arrays are."""


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm((a - b).double()) / torch.linalg.vector_norm(b.double()))


def train(net: nn.Module, optimizer: Any, clip: Callable[[float], Any], rank: int | None, case: str) -> torch.Tensor:
    rate = reference.schedule(optimizer)
    for step in range(reference.STEPS):
        x, y = (each.to(CUDA) for each in reference.part(step, rank))
        optimizer.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        if case == "clipped":
            clip(reference.CLIP)
        optimizer.step()
        rate.step()
    return reference.flat(net).cpu()


@WHERE
@pytest.mark.parametrize("overlap", [False, True], ids=["at once", "overlap"])
@pytest.mark.parametrize("case", reference.CASES)
def test_fifty_steps_are_those_of_torch_alone(loopback: Start, case: str, overlap: bool, where: str) -> None:
    spec, settings, build = reference.CASES[case]

    def script(kv: KV) -> torch.Tensor:
        net = reference.model().to(CUDA)
        groups = reference.groups(case, net)
        optimizer = ps.torch.DistributedOptimizer(groups, kv, model=net, overlap=overlap)
        return train(net, optimizer, optimizer.clip_grad_norm_, kv.rank, case)

    cluster = loopback(servers=2, workers=2, optimizer=spec, transport="auto", **settings)
    first, second = cluster.run(script, script, device=xp.device(where))
    assert torch.equal(first, second)
    net = reference.model().to(CUDA)
    alone = train(
        net,
        build(reference.groups(case, net)),
        lambda most: nn.utils.clip_grad_norm_(net.parameters(), most),
        None,
        case,
    )
    assert distance(first, alone) < CLOSE


@WHERE
@pytest.mark.parametrize("mode", ["sync", "federated"])
def test_buffers_come_along(loopback: Start, mode: str, where: str) -> None:
    def script(kv: KV) -> dict[str, torch.Tensor]:
        with reference.seeded(0):
            net = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).to(CUDA)
        optimizer = ps.torch.DistributedOptimizer(net, kv)
        for number, _ in enumerate(kv.batches((np.zeros((24, 1), np.float32),), batch_size=4)):
            x, y = (each.to(CUDA) for each in reference.part(number, kv.rank))
            optimizer.zero_grad()
            functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        kv.barrier()
        return {name: each.cpu() for name, each in net.state_dict().items()}

    settings = {"rounds": 3, "local_steps": 2} if mode == "federated" else {}
    first, second = loopback(workers=2, mode=mode, **settings).run(script, script, device=xp.device(where))
    assert float(first["1.running_mean"].abs().sum()) > 0
    names = first if mode == "federated" else [name for name in first if "running" not in name]
    assert all(torch.equal(first[name], second[name]) for name in names)


@WHERE
def test_an_overflow_under_autocast_skips_the_step_on_all(loopback: Start, where: str) -> None:
    def script(kv: KV) -> tuple[list[bool], torch.Tensor]:
        net = reference.model().to(CUDA)
        optimizer = ps.torch.DistributedOptimizer(net, kv)
        scaler = ps.torch.GradScaler("cuda", init_scale=2.0**8, growth_interval=1000)
        skipped = []
        for step in range(8):
            x, y = (each.to(CUDA) for each in reference.part(step, kv.rank))
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = functional.cross_entropy(net(x), y)
            if step == 3 and kv.rank == 1:
                loss = loss * float("inf")
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            skipped.append(optimizer.step_was_skipped)
        return skipped, reference.flat(net).cpu()

    (first, a), (second, b) = loopback(workers=2).run(script, script, device=xp.device(where))
    assert first == second == [step == 3 for step in range(8)]
    assert torch.equal(a, b)
    assert bool(torch.isfinite(a).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_on_the_device_has_its_master_on_the_servers(loopback: Start, dtype: torch.dtype) -> None:
    def script(kv: KV) -> torch.Tensor:
        net = reference.model().to(CUDA, dtype)
        optimizer = ps.torch.DistributedOptimizer(net, kv)
        for step in range(40):
            x, y = (each.to(CUDA) for each in reference.part(step % 8, kv.rank))
            optimizer.zero_grad()
            functional.cross_entropy(net(x.to(dtype)).float(), y).backward()
            optimizer.step()
        return reference.flat(net).float().cpu()

    def whole(kv: KV) -> torch.Tensor:
        net = reference.model().to(CUDA)
        optimizer = ps.torch.DistributedOptimizer(net, kv)
        return train_plain(net, optimizer, kv.rank)

    def train_plain(net: nn.Module, optimizer: Any, rank: int) -> torch.Tensor:
        for step in range(40):
            x, y = (each.to(CUDA) for each in reference.part(step % 8, rank))
            optimizer.zero_grad()
            functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        return reference.flat(net).cpu()

    first, second = loopback(workers=2, optimizer="sgd:lr=0.01").run(script, script)
    single, _ = loopback(workers=2, optimizer="sgd:lr=0.01").run(whole, whole)
    assert torch.equal(first, second)
    assert distance(first, single) < 0.01


def test_bfloat16_on_the_device_of_cupy_is_refused_by_name(loopback: Start) -> None:
    def script(kv: KV) -> None:
        with pytest.raises(UsageError, match="CuPy has no bfloat16"):
            ps.torch.DistributedOptimizer(reference.model().to(CUDA, torch.bfloat16), kv)

    loopback().run(script, device=xp.device("cuda"))


# Pipelines

LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "plain": lambda: [nn.Linear(12, 32), nn.Tanh(), nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)],
    "norm and dropout": lambda: [
        nn.Linear(12, 32),
        nn.BatchNorm1d(32),
        nn.Dropout(0.2),
        nn.Linear(32, 16),
        nn.Linear(16, 4),
    ],
}


def pipeline(kv: KV, layers: str, **how: Any) -> dict[str, np.ndarray]:
    with reference.seeded(0):
        net = nn.Sequential(*LAYERS[layers]())
    torch.cuda.manual_seed(1000 * kv.job.workers + kv.rank)  # what is drawn may not depend on it
    pipe = ps.torch.Pipeline(net, nn.CrossEntropyLoss(), **how)
    pipe.init(kv, seed=0)
    whole = [reference.part(step, None) for step in range(8)]
    x, y = (torch.cat(parts).numpy() for parts in zip(*whole, strict=True))
    for a, b in kv.batches((x, y), batch_size=32, epochs=2):
        pipe.step(a, b, microbatches=4)
    return {name: xp.to_host(value).copy() for name, value in kv.params.items()}


@pytest.mark.parametrize(
    ("workers", "layers", "how"),
    [
        (4, "plain", {}),
        (2, "norm and dropout", {}),
        (3, "norm and dropout", {"recompute": True}),
        (2, "plain", {"schedule": "zero-bubble"}),
        (3, "norm and dropout", {"waves": 2}),
    ],
)
def test_a_torch_pipeline_on_a_device_has_the_bits_of_one_process_there(
    loopback: Start, local: Local, workers: int, layers: str, how: dict[str, Any]
) -> None:
    cuda, waves = xp.device("cuda"), how.get("waves", 1)
    how = {name: value for name, value in how.items() if name != "waves"}
    job = {"mode": "pipeline", "optimizer": "adam:lr=0.01", "waves": waves}
    alone = pipeline(local(cuda, **(job if waves > 1 else {"optimizer": job["optimizer"]})), layers)
    cluster = loopback(workers=workers, **job)
    found = cluster.run(*[lambda kv: pipeline(kv, layers, **how)] * workers, device=cuda)
    whole = {name: value for params in found for name, value in params.items()}
    assert whole.keys() == alone.keys()
    assert [name for name in whole if not np.array_equal(whole[name], alone[name])] == []


def test_a_torch_pipeline_on_a_device_trains_as_on_the_host(local: Local) -> None:
    there, here = (pipeline(local(device, optimizer="sgd:lr=0.1"), "plain") for device in (xp.device("cuda"), xp.CPU))
    for name in here:
        np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_model_on_a_device_where_the_worker_computes_on_the_host_is_refused(local: Local) -> None:
    pipe = ps.torch.Pipeline(nn.Sequential(nn.Linear(4, 4)).to(CUDA), nn.MSELoss())
    with pytest.raises(UsageError, match="the model is on cuda:0, and this worker computes on the host"):
        pipe.init(local())
