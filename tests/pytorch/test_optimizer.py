"""Promises of DistributedOptimizer: what is sent, what comes back, and what a script may do to a model meanwhile."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn

from ps.errors import ConfigError, GradientError, LayoutMismatch, StateError, UsageError
from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer
from ps.worker import KV
from support.torch_reference import seeded

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own
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


# What is sent


def set_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss_of(model), parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()


def accumulated(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for keep in (True, False):
        optimizer.zero_grad(set_to_none=keep)
        for micro in range(3):
            (loss_of(model, micro) / 3).backward()
        optimizer.step()


def changed_before_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss_of(model).backward()
    for parameter in model.parameters():
        parameter.grad.mul_(0.5)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()


def hooked(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    handles = [parameter.register_hook(lambda gradient: gradient * 2) for parameter in model.parameters()]
    loss_of(model).backward()
    optimizer.step()
    for handle in handles:
        handle.remove()


def strided(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss_of(model).backward()
    for parameter in model.parameters():
        parameter.grad = (
            parameter.grad.repeat_interleave(2, -1)[..., ::2]
            if parameter.ndim == 1
            else (parameter.grad.t().contiguous().t())
        )
        assert parameter.ndim == 1 or not parameter.grad.is_contiguous()
    optimizer.step()


def twice_without_zeroing(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(2):
        loss_of(model, step).backward()
        optimizer.step()


def closure(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    def compute() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    with torch.no_grad():
        assert float(optimizer.step(compute)) == pytest.approx(float(loss_of(net())))


def sharpness_aware(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """SAM: two backwards in a step, with the weights moved in between and brought back by subtraction."""
    for step in range(3):
        loss_of(model, step).backward()
        with torch.no_grad():
            moves = [0.05 * p.grad / p.grad.norm() for p in model.parameters()]
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.add_(move)
        optimizer.zero_grad()
        loss_of(model, step).backward()
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.sub_(move)
        optimizer.step()
        optimizer.zero_grad()


def sparse(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    loss_of(model).backward()
    for parameter in model.parameters():
        parameter.grad = parameter.grad.to_sparse()
    optimizer.step()


WAYS = [
    set_by_hand,
    accumulated,
    changed_before_step,
    hooked,
    strided,
    twice_without_zeroing,
    closure,
    sharpness_aware,
    sparse,
]


@pytest.mark.parametrize("steps", WAYS)
def test_what_is_sent_is_what_the_gradient_is_when_step_is_called(local: Local, steps: Any) -> None:
    same(here(local, steps), alone(steps), rtol=1e-5)


def test_the_gradient_is_sent_as_it_is_and_is_never_overwritten(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(optimizer="sgd:lr=0.1"))
    loss_of(model).backward()
    kept = [parameter.grad for parameter in model.parameters()]
    before = [gradient.clone() for gradient in kept]
    optimizer.step()
    for parameter, gradient, was in zip(model.parameters(), kept, before, strict=True):
        assert parameter.grad is gradient and torch.equal(gradient, was)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("some", [["0.weight"], ["2.bias"], ["0.weight", "0.bias", "2.weight", "2.bias"]], ids=len)
def test_gradients_may_lie_where_they_are_sent_from_even_in_each_others_places(
    local: Local, some: list[str], swapped: bool
) -> None:
    kv = local(optimizer="sgd:lr=0.1")
    model = net()
    optimizer = DistributedOptimizer(model, kv)
    loss_of(model).backward()
    memory = torch.from_numpy(whole(kv))
    at = 0
    for name, parameter in reversed(list(model.named_parameters())) if swapped else model.named_parameters():
        if name in some:
            place = memory[at : at + parameter.numel()] if swapped else torch.from_numpy(kv.grads[name]).reshape(-1)
            place.copy_(parameter.grad.reshape(-1))
            parameter.grad = place.view(parameter.shape)
            at += parameter.numel()
    optimizer.step()

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        loss_of(model).backward()
        optimizer.step()

    same(values(model), alone(steps))


def test_channels_last_weights_and_gradients_keep_their_layout(local: Local) -> None:
    def train(made: Callable[[nn.Module], torch.optim.Optimizer]) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
        optimizer = made(model)
        x = torch.ones(2, 4, 5, 5).to(memory_format=torch.channels_last)
        for _ in range(2):
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()
        assert model.weight.is_contiguous(memory_format=torch.channels_last)
        return model

    ours = train(lambda model: DistributedOptimizer(model, local(optimizer="sgd:lr=0.1")))
    same(values(ours), values(train(lambda model: torch.optim.SGD(model.parameters(), lr=0.1))), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_what_has_no_gradient_keeps_its_values_and_its_state_in_every_mode(loopback: Start, mode: str) -> None:
    """As torch does: of two heads in turns each has its own count of steps."""

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, np.ndarray]:
        for step in range(6):
            optimizer.zero_grad()
            x = torch.randn(10, 6, generator=torch.Generator().manual_seed(step))
            (model[step % 2](x) ** 2).mean().backward()
            optimizer.step()
        return values(model)

    def script(kv: KV) -> dict[str, np.ndarray]:
        model = nn.ModuleList([net(0), net(1)])
        return train(model, DistributedOptimizer(model, kv))

    (found,) = loopback(servers=2, mode=mode, optimizer="adam:lr=0.01").run(script)
    model = nn.ModuleList([net(0), net(1)])
    same(found, train(model, torch.optim.Adam(model.parameters(), lr=0.01)), rtol=1e-5)


def test_two_networks_over_one_connection_are_trained_in_turns_as_by_two_optimizers(loopback: Start) -> None:
    """A GAN: the generator's backward fills the discriminator's gradients too, which its step must not send."""

    def discriminate(generator: nn.Module, discriminator: nn.Module, step: int) -> Any:
        z = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        return discriminator(generator(z)).mean()

    def networks() -> nn.ModuleDict:
        with seeded(0):
            return nn.ModuleDict({"g": nn.Linear(6, 4), "d": nn.Linear(4, 1)})

    def script(kv: KV) -> dict[str, np.ndarray]:
        both = networks()
        optimizer = DistributedOptimizer(both, kv)
        for step in range(4):
            optimizer.zero_grad()
            discriminate(both["g"], both["d"], step + 10 * kv.rank).backward()
            both["g"].zero_grad()
            optimizer.step()
            optimizer.zero_grad()
            (-discriminate(both["g"], both["d"], step + 10 * kv.rank)).backward()
            both["d"].zero_grad()
            optimizer.step()
        with pytest.raises(StateError, match=r"a connection trains one model.*ModuleDict"):
            DistributedOptimizer(networks(), kv)
        return values(both)

    first, second = loopback(workers=2, optimizer="momentum:lr=0.1").run(script, script)
    both = networks()
    of = {name: torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9) for name, part in both.items()}
    for step in range(4):
        for name, sign in (("d", 0.5), ("g", -0.5)):
            both.zero_grad()
            for rank in range(2):
                (sign * discriminate(both["g"], both["d"], step + 10 * rank)).backward()
            of[name].step()
    same(first, second)
    same(first, values(both), rtol=1e-5)


def test_closures_that_are_slow_or_many_hang_nobody_since_each_is_called_once_a_step(loopback: Start) -> None:
    def script(kv: KV) -> int:
        model, calls = net(), 0
        optimizer = DistributedOptimizer(model, kv)

        def compute() -> Any:
            nonlocal calls
            for _ in range(1 + 3 * kv.rank):  # several backwards: another number on each worker
                optimizer.zero_grad()
                calls += 1
                loss = loss_of(model)
                loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(compute)
        return calls

    assert loopback(workers=2, optimizer="sgd:lr=0.1").run(script, script) == [3, 12]


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

    assert "weight float32" in "".join(loopback(workers=2).run(script, script))


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


# The script and the weights


@pytest.mark.parametrize("transport", ["tcp", "auto"])
@pytest.mark.parametrize("mode", MODES)
def test_weights_that_the_script_changes_are_refused_and_nothing_crashes(
    loopback: Start, mode: str, transport: str
) -> None:
    def script(kv: KV) -> None:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        loss_of(model).backward()
        optimizer.step()
        with torch.no_grad():
            model[2].weight.clamp_(-0.01, 0.01)
        loss_of(model).backward()
        with pytest.raises(UsageError, match=r"'2\.weight' was changed by the script.*parametrize"):
            optimizer.step()
        optimizer.refresh()
        optimizer.step()

    loopback(mode=mode, transport=transport, optimizer="sgd:lr=0.1").run(script)


def test_writes_through_data_are_found_in_the_first_steps(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(optimizer="sgd:lr=0.1"))
    for _ in range(3):
        loss_of(model).backward()
        optimizer.step()
    for parameter in model.parameters():
        parameter.data.clamp_(-0.01, 0.01)  # as the first GANs with a bounded critic do
    loss_of(model).backward()
    with pytest.raises(UsageError, match=r"'0\.weight' was changed by the script"):
        optimizer.step()


def test_averaged_weights_may_be_swapped_in_and_out(local: Local) -> None:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        average = copy.deepcopy(model)
        for step in range(5):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
            kept = [parameter.data.clone() for parameter in model.parameters()]
            with torch.no_grad():
                for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(parameter, 0.1)
                    parameter.copy_(mean)
            loss_of(model)
            for parameter, value in zip(model.parameters(), kept, strict=True):
                parameter.data = value

    same(here(local, steps), alone(steps), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_barrier_brings_the_weights_into_the_model(loopback: Start, mode: str) -> None:
    def script(kv: KV) -> dict[str, np.ndarray]:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        for step in range(1 if mode == "sync" else 1 + kv.rank):
            loss_of(model, step).backward()
            optimizer.step()
        kv.barrier()
        return values(model)

    first, second = loopback(workers=2, mode=mode, optimizer="sgd:lr=0.1").run(script, script)
    same(first, second, rtol=0)


def test_an_evaluation_sees_the_model_as_it_is_after_the_step(local: Local) -> None:
    kv, model, seen = local(optimizer="sgd:lr=0.1", eval_every=1), net(), []
    optimizer = DistributedOptimizer(model, kv)

    def measure(params: Any, data: Any) -> float:
        seen.append((np.array(params["0.weight"]), values(model)["0.weight"]))
        return 0.0

    kv.evaluate(measure, None)
    for step in range(2):
        loss_of(model, step).backward()
        optimizer.step()
    assert len(seen) == 2 and all(np.array_equal(a, b) for a, b in seen)


# Clipping, weights of a contribution, scaled losses


def test_clipping_is_the_servers_and_the_job_has_to_say_so(local: Local) -> None:
    optimizer = DistributedOptimizer(net(), local(clip_norm=0.5))
    optimizer.clip_grad_norm_(0.5)
    with pytest.raises(UsageError, match=r"this job clips to 0\.5: --clip-norm 1,"):
        optimizer.clip_grad_norm_(1.0)
    with pytest.raises(UsageError, match=r"this job does not clip: --clip-norm 0\.1"):
        DistributedOptimizer(net(), local()).clip_grad_norm_(0.1)


def test_what_is_clipped_to_next_to_nothing_does_not_move(loopback: Start) -> None:
    def script(kv: KV) -> float:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        optimizer.clip_grad_norm_(1e-12)
        loss_of(model, kv.rank).backward()
        optimizer.step()
        return max(
            float(np.abs(a - b).max()) for a, b in zip(values(model).values(), values(net()).values(), strict=True)
        )

    assert max(loopback(workers=2, optimizer="sgd:lr=0.1", clip_norm=1e-12).run(script, script)) < 1e-9


def ragged(rank: int, micro: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens of which rank 0 has 10 with a label in all and rank 1 has 1,000, in four parts of a batch."""
    random = torch.Generator().manual_seed(10 * rank + micro)
    x, y = torch.randn(400, 6, generator=random), torch.randint(3, (400,), generator=random)
    kept = [[1, 2, 3, 4], [400, 100, 200, 300]][rank][micro]
    y[kept:] = -100
    return x, y


def test_ragged_batches_give_the_gradient_of_the_whole_batch_with_their_weight(loopback: Start) -> None:
    def script(kv: KV) -> dict[str, np.ndarray]:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        for _ in range(3):
            optimizer.zero_grad()
            parts = [ragged(kv.rank, micro) for micro in range(4)]
            tokens = sum(int((y >= 0).sum()) for _, y in parts)
            for x, y in parts:
                (nn.functional.cross_entropy(model(x), y, reduction="sum") / tokens).backward()
            optimizer.step(weight=tokens)
        return values(model)

    first, _ = loopback(workers=2, optimizer="adam:lr=0.01", aggregator="weighted").run(script, script)

    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    parts = [ragged(rank, micro) for rank in range(2) for micro in range(4)]
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            model(torch.cat([x for x, _ in parts])), torch.cat([y for _, y in parts])
        ).backward()
        optimizer.step()
    same(first, values(model), rtol=1e-4)


def test_a_weight_that_the_job_would_not_heed_is_refused(loopback: Start, local: Local) -> None:
    def script(kv: KV) -> None:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        loss_of(model).backward()
        with pytest.raises(
            UsageError, match="aggregator = mean takes each worker's gradient for as much: --aggregator"
        ):
            optimizer.step(weight=10)
        optimizer.step()

    loopback(workers=2, optimizer="sgd").run(script, script)
    model = net()
    optimizer = DistributedOptimizer(model, local())
    loss_of(model).backward()
    optimizer.step(weight=3)
    with pytest.raises(UsageError, match="more than 0, not 0"):
        optimizer.step(weight=0)


def test_nan_is_refused_by_the_parameters_name(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local())
    loss_of(model).backward()
    model[2].bias.grad[1] = float("nan")
    with pytest.raises(GradientError, match=r"'2\.bias' is nan at \(1,\)"):
        optimizer.step()


@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaled_loss_is_unscaled_and_an_overflow_skips_the_step_where_one_worker_trains(
    local: Local, unscale: bool
) -> None:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            if step == 2:
                model[0].bias.grad[0] = float("inf")
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == 512

    same(here(local, steps), alone(steps), rtol=1e-5)


def test_an_overflow_on_one_worker_parts_nobody(loopback: Start) -> None:
    """With another scale on each worker; the gradient of the one that overflows is left out of the step."""

    def script(kv: KV) -> tuple[dict[str, np.ndarray], int]:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0 * (1 + kv.rank))
        for step in range(3):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            if step == 1 and kv.rank == 1:
                model[0].bias.grad[0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
        return values(model), kv.clock

    (first, a), (second, b) = loopback(workers=2, optimizer="sgd:lr=0.1", on_nan="skip").run(script, script)
    same(first, second, rtol=0)
    assert a == b == 3

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for step in range(3):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()

    same(first, alone(steps), rtol=1e-5)


def test_a_scaler_that_could_part_workers_is_refused_before_anything_is_sent(loopback: Start) -> None:
    def script(kv: KV) -> int:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(loss_of(model)).backward()
        with pytest.raises(UsageError, match=r"GradScaler finds an overflow on one worker.*bfloat16.*--on-nan skip"):
            scaler.step(optimizer)
        return kv.clock

    assert loopback(workers=2).run(script, script) == [0, 0]


def test_overlap_of_the_job_is_refused(local: Local) -> None:
    with pytest.raises(UsageError, match="leave out --overlap"):
        DistributedOptimizer(net(), local(overlap=True))


# Federated


def test_a_client_trains_its_module_and_its_buffers_are_those_of_all(loopback: Start) -> None:
    def script(kv: KV) -> tuple[Any, Any]:
        with seeded(kv.rank):
            model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        optimizer = DistributedOptimizer(model, kv)
        x = np.random.default_rng(kv.rank).standard_normal((16, 6)).astype(np.float32) + kv.rank
        moved = 0
        for batch in kv.batches((x, np.arange(16)), 4):
            before = values(model)["0.weight"]
            optimizer.zero_grad()
            (model(torch.from_numpy(batch[0])) ** 2).mean().backward()
            optimizer.step()
            moved += not np.array_equal(before, values(model)["0.weight"])
        assert moved > 4
        return values(model), {name: buffer.numpy().copy() for name, buffer in model.named_buffers()}

    job = {"mode": "federated", "workers": 2, "rounds": 3, "local_optimizer": "sgd:lr=0.05", "partition": "own"}
    (first, buffers), (second, others) = loopback(servers=2, **job).run(script, script)
    same(first, second, rtol=0)
    for name in buffers:
        np.testing.assert_array_equal(buffers[name], others[name], err_msg=name)
    assert int(buffers["1.num_batches_tracked"]) == 2 * 3 * 4
