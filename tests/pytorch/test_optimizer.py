"""Promises of DistributedOptimizer: names, kinds and dtypes of a module's tensors, groups, rates and state."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn

from ps.errors import ConfigError, LayoutMismatch, UsageError
from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer
from ps.worker import KV
from support.torch_net import alone, loss_of, net, same, values

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own
Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
MODES = ["sync", "async", "ssp"]


# Names, kinds, dtypes


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))
        self.register_buffer("cache", torch.ones(3), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.embedding(x)))


def test_a_tied_weight_is_trained_once_as_torch_does(local: Local) -> None:
    def train(made: Callable[[nn.Module], torch.optim.Optimizer]) -> dict[str, np.ndarray]:
        torch.manual_seed(0)
        model = Tied()
        optimizer = made(model)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.arange(7)), torch.arange(7)).backward()
            optimizer.step()
        return values(model)

    kv = local(optimizer="adam:lr=0.01")
    ours = train(lambda model: DistributedOptimizer(model, kv))
    same(ours, train(lambda model: torch.optim.Adam(model.parameters(), lr=0.01)), rtol=1e-4)
    trained = ["embedding.weight", "norm.weight", "norm.bias"]
    beside = ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "mask"]
    assert list(kv.params) == [*trained, *beside]
    assert int(kv.params["norm.num_batches_tracked"]) == 3, "the connection has the buffers as of the last step"


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: torch.compile(nn.DataParallel(m))])
def test_names_are_those_of_the_bare_model(local: Local, wrap: Any) -> None:
    kv = local(optimizer="sgd")
    DistributedOptimizer(wrap(nn.ModuleDict({"module": net()})), kv)
    assert list(kv.params) == [f"module.{name}" for name in dict(net().named_parameters())]


def test_parts_that_are_compiled_have_their_bare_names_and_their_weights_change(local: Local) -> None:
    kv, model = local(optimizer="sgd:lr=1"), net()
    model[0] = torch.compile(model[0], backend="eager")
    optimizer = DistributedOptimizer(model, kv)
    assert list(kv.params) == list(dict(net().named_parameters()))
    loss_of(model).backward()
    optimizer.step()
    assert not np.array_equal(values(model)["0._orig_mod.weight"], values(net())["0.weight"])


def test_frozen_parameters_are_never_sent_and_one_that_has_a_gradient_later_is_refused(loopback: Start) -> None:
    def script(kv: KV) -> int:
        model = net()
        model[0].requires_grad_(False).bfloat16()
        optimizer = DistributedOptimizer(model, kv)
        model[2](torch.ones(1, 8)).sum().backward()
        optimizer.step()
        model[0].requires_grad_(True)
        model[0](torch.ones(1, 6).bfloat16()).sum().backward()
        with pytest.raises(UsageError, match=r"'0\.weight' has a gradient, and was frozen.*requires_grad_\(False\)"):
            optimizer.step()
        return kv._store.traffic.bytes_up  # type: ignore[attr-defined]

    assert loopback(optimizer="sgd").run(script) == [2 * 4 * (8 * 3 + 3)]


def test_dtypes_that_are_not_trained_are_refused_by_name(local: Local) -> None:
    with pytest.raises(UsageError, match=r"'weight' is complex64, which is not trained: .*model\.float\(\)"):
        DistributedOptimizer(nn.Linear(2, 2, dtype=torch.complex64), local())


@pytest.mark.parametrize("transport", ["tcp", "auto"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_trained_with_masters_that_keep_small_steps(
    loopback: Start, dtype: Any, transport: str
) -> None:
    """A step of 1e-4 is lost in a weight of half precision near 1; a hundred of them are not in its master."""

    def script(kv: KV) -> tuple[Any, float]:
        model = nn.Linear(4, 2, bias=False)
        nn.init.ones_(model.weight)
        model.to(dtype)
        optimizer = DistributedOptimizer(model, kv)
        for _ in range(200):
            optimizer.zero_grad()
            model.weight.sum().backward()
            optimizer.step()
        return model.weight.dtype, float(model.weight.detach().float().mean())

    ((found, mean),) = loopback(transport=transport, optimizer="sgd:lr=1e-4").run(script)
    assert found is dtype and mean == pytest.approx(0.98, abs=0.004)


def test_models_that_differ_are_refused_by_the_tensor(loopback: Start) -> None:
    def script(kv: KV) -> str:
        try:
            DistributedOptimizer(nn.Linear(3, 2 + kv.rank), kv)
        except LayoutMismatch as error:
            return str(error)
        return ""

    told = "".join(loopback(workers=2).run(script, script))
    shapes = [told.split(f"worker {rank} has bias float32")[1][:3] for rank in range(2)]  # the first by name
    assert shapes == ["[2]", "[3]"]


# Groups, rates, state


def test_every_worker_begins_with_the_first_ones_values_and_ends_with_the_same(loopback: Start) -> None:
    def script(kv: KV) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        model = net(seed=kv.rank)
        optimizer = DistributedOptimizer(model, kv)
        began = values(model)
        loss_of(model, kv.rank).backward()
        optimizer.step()
        return began, values(model)

    (a, b), (c, d) = loopback(workers=2, optimizer="sgd:lr=0.1").run(script, script)
    same(a, c, rtol=0)
    same(b, d, rtol=0)
    assert not np.array_equal(a["0.weight"], b["0.weight"])


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "warm-up from 0": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: step / 5),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.2, total_steps=8, cycle_momentum=False),
    "cosine restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_of_torch_work_unchanged_for_groups_too(local: Local, name: str) -> None:
    def train(made: Callable[[Any], torch.optim.Optimizer]) -> dict[str, np.ndarray]:
        model = net()
        optimizer = made([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.3}])
        scheduler = SCHEDULERS[name](optimizer)
        for step in range(7):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
            scheduler.step()
            if step == 3:
                optimizer.param_groups[1]["weight_decay"] = 0.2
        return values(model)

    ours = train(lambda groups: DistributedOptimizer(groups, local(optimizer="sgd:lr=0.1")))
    same(ours, train(lambda groups: torch.optim.SGD(groups, lr=0.1)), rtol=1e-4)


def test_only_what_has_changed_is_said_again(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    kv, said = local(optimizer="sgd:lr=0.1"), []
    model = net()
    optimizer = DistributedOptimizer(model, kv)
    monkeypatch.setattr(kv, "set_lr", lambda lr, group=None: said.append((lr, group)))
    for lr in (0.1, 0.2, 0.2, torch.tensor(0.5)):
        optimizer.param_groups[0]["lr"] = lr
        loss_of(model).backward()
        optimizer.step()
    assert said == [(0.2, None), (0.5, None)]


def test_a_scheduler_beside_the_jobs_schedule_is_warned_of(local: Local, caplog: pytest.LogCaptureFixture) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(optimizer="sgd:lr=0.1", schedule="cosine:steps=10"))
    with caplog.at_level(logging.WARNING):
        for lr in (0.1, 0.05, 0.02):
            optimizer.param_groups[0]["lr"] = lr
            loss_of(model).backward()
            optimizer.step()
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "schedule cosine:steps=10 multiplies it" in caplog.text


@pytest.mark.parametrize(
    ("groups", "kind", "text"),
    [
        ([{"params": [], "momentum": 0.9}], UsageError, "no parameter of the model is trained"),
        ({"momentum": 0.9}, ConfigError, "optimizer adam takes no 'momentum'"),
        ({"lr": "0.1"}, UsageError, "lr of param group 0 is a number"),
        ({"fused": True}, UsageError, "fused of param group 0 is a number"),
    ],
)
def test_groups_that_cannot_be_are_refused(local: Local, groups: Any, kind: Any, text: str) -> None:
    given = groups if isinstance(groups, list) else [{"params": net().parameters(), **groups}]
    with pytest.raises(kind, match=text):
        DistributedOptimizer(given, local(optimizer="adam"))


def test_a_number_that_the_servers_keep_cannot_change(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(optimizer="momentum:lr=0.1"))
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=8)
    loss_of(model).backward()
    with pytest.raises(UsageError, match=r"momentum of param group 0 is .* now and was 0.9.*cycle_momentum=False"):
        optimizer.step()


def test_betas_are_those_of_torch(local: Local) -> None:
    def train(made: Callable[[Any], torch.optim.Optimizer]) -> dict[str, np.ndarray]:
        model = net()
        optimizer = made([{"params": model.named_parameters(), "betas": (0.5, 0.9)}])
        for step in range(3):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
        return values(model)

    ours = train(lambda groups: DistributedOptimizer(groups, local(optimizer="adam:lr=0.01")))
    same(ours, train(lambda groups: torch.optim.Adam(groups, lr=0.01)), rtol=1e-4)


def test_state_is_that_of_the_groups_and_another_models_is_refused_by_name(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(optimizer="sgd:lr=0.1"))
    optimizer.param_groups[0]["lr"] = 0.7
    state = copy.deepcopy(optimizer.state_dict())
    assert state["state"] == {}
    again = net()
    loaded = DistributedOptimizer(again, local(optimizer="sgd:lr=0.1"))
    loaded.load_state_dict(state)
    loss_of(again).backward()
    loaded.step()

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        loss_of(model).backward()
        optimizer.step()

    same(values(again), alone(step, lr=0.7))
    other = DistributedOptimizer(nn.Linear(2, 2), local(optimizer="sgd:lr=0.1"))
    with pytest.raises(UsageError, match=r"another model: it has '0\.weight'"):
        other.load_state_dict(state)
    with pytest.raises(UsageError, match="not the state of a DistributedOptimizer"):
        other.load_state_dict({"state": {0: {"step": 1}}, "param_groups": []})
    assert other.param_groups[0]["lr"] == 0.1
    with pytest.raises(UsageError, match="a job's model is fixed once it has begun"):
        other.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
