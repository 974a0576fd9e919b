"""Promises of overlap: gradients leave during the backward pass, and what changes them afterwards is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn

from ps.errors import GradientError, UsageError
from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer
from ps.worker import KV
from support.torch_net import alone, loss_of, net, same, values

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
Steps = Callable[[nn.Module, torch.optim.Optimizer], None]


def plain(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def kept_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        optimizer.zero_grad(set_to_none=False)
        loss_of(model, step).backward()
        optimizer.step()


def closure(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):

        def compute(step: int = step) -> Any:
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            return loss

        optimizer.step(compute)


def another_thread(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """As on a GPU, whose gradients torch computes on a thread of its own."""
    for step in range(3):
        optimizer.zero_grad()
        thread = threading.Thread(target=loss_of(model, step).backward)
        thread.start()
        thread.join()
        optimizer.step()


def some_without(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(4):
        optimizer.zero_grad()
        x = torch.randn(10, 6, generator=torch.Generator().manual_seed(step))
        (model[0](x) ** 2).mean().backward() if step % 2 else loss_of(model, step).backward()
        optimizer.step()


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """No hook sees these: they are sent by step."""
    for step in range(2):
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss_of(model, step), parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()


@pytest.mark.parametrize("cluster", [{}, {"mode": "async", "transport": "tcp"}], ids=str)
@pytest.mark.parametrize("steps", [plain, kept_gradients, closure, another_thread, some_without, by_hand])
def test_a_step_whose_gradients_left_early_is_that_of_torch(
    loopback: Start, steps: Steps, cluster: dict[str, Any]
) -> None:
    def script(kv: KV) -> dict[str, np.ndarray]:
        model = net()
        steps(model, DistributedOptimizer(model, kv, overlap=True))
        return values(model)

    (found,) = loopback(servers=2, chunk_size=1024, optimizer="sgd:lr=0.1", **cluster).run(script)
    same(found, alone(steps), rtol=1e-5)


def test_the_last_layers_leave_while_the_first_ones_are_computed(loopback: Start) -> None:
    def script(kv: KV) -> tuple[int, int, int]:
        model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 32))
        optimizer = DistributedOptimizer(model, kv, overlap=True)
        traffic, seen = kv._store.traffic, list[int]()  # type: ignore[attr-defined]
        model[0].weight.register_hook(lambda _: seen.append(traffic.bytes_up))
        began = traffic.bytes_up
        (model(torch.ones(2, 32)) ** 2).mean().backward()
        sent = traffic.bytes_up
        optimizer.step()
        return seen[0] - began, sent - began, traffic.bytes_up - began

    ((early, sent, total),) = loopback(transport="tcp", chunk_size=1024, optimizer="sgd").run(script)
    assert 7 * 1024 <= early < sent == total == 4 * (2 * 32 * 64 + 64 + 32)


@pytest.mark.parametrize("unequal", [False, True])
def test_announced_passes_add_up_before_anything_leaves(loopback: Start, unequal: bool) -> None:
    """Of three passes, or of fewer at the end of an epoch; parameters may take part in some of them only."""

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for step in range(3):
            optimizer.zero_grad()
            for micro in range(2 if unequal and step == 2 else 3):
                x = torch.randn(10, 6, generator=torch.Generator().manual_seed(10 * step + micro))
                loss = (model[0](x) ** 2).mean() if unequal and micro == 1 else (model(x) ** 2).mean()
                (loss / 3).backward()
            optimizer.step()

    def script(kv: KV) -> dict[str, np.ndarray]:
        model = net()
        steps(model, DistributedOptimizer(model, kv, overlap=True, accumulate=3))
        return values(model)

    (found,) = loopback(optimizer="sgd:lr=0.1").run(script)
    same(found, alone(steps), rtol=1e-5)


def test_tied_weights_are_sent_once_with_the_sum_of_their_gradients(loopback: Start) -> None:
    def train(made: Callable[[nn.Module], torch.optim.Optimizer]) -> dict[str, np.ndarray]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
        model[2].weight = model[0].weight
        optimizer = made(model)
        for step in range(3):
            optimizer.zero_grad()
            (model(torch.full((2, 5), 0.1 + step)) ** 2).mean().backward()
            optimizer.step()
        return values(model)

    def script(kv: KV) -> dict[str, np.ndarray]:
        return train(lambda model: DistributedOptimizer(model, kv, overlap=True))

    (found,) = loopback(optimizer="sgd:lr=0.1").run(script)
    same(found, train(lambda model: torch.optim.SGD(model.parameters(), lr=0.1)), rtol=1e-5)


# What must see gradients first


def clip(model: nn.Module, optimizer: Any) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-12)


def replace(model: nn.Module, optimizer: Any) -> None:
    model[0].bias.grad = model[0].bias.grad * 0.5


def through_data(model: nn.Module, optimizer: Any) -> None:
    model[0].bias.grad.data.mul_(0.5)


def zero(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()


@pytest.mark.parametrize("change", [clip, replace, through_data, zero])
def test_a_gradient_that_changes_after_it_was_sent_is_noticed(local: Local, change: Any) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(), overlap=True)
    before = values(model)
    loss_of(model).backward()
    change(model, optimizer)
    with pytest.raises(UsageError, match=r"'[02]\.\w+' was changed after it was sent.*--clip-norm.*overlap=True"):
        optimizer.step()
    same(values(model), before, rtol=0)


def test_the_jobs_own_clipping_goes_with_it(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(clip_norm=1e-12, optimizer="sgd:lr=1"), overlap=True)
    before = values(model)
    loss_of(model).backward()
    optimizer.clip_grad_norm_(1e-12)
    optimizer.step()
    same(values(model), before, rtol=0)


def test_more_passes_than_announced_are_refused_as_they_come(local: Local) -> None:
    """As SAM has them, and two losses one after the other."""
    model = net()
    DistributedOptimizer(model, local(), overlap=True)
    loss_of(model).backward()
    with pytest.raises(UsageError, match=r"sent in a backward pass before this one.*accumulate=4"):
        loss_of(model).backward()


def test_an_unscaled_gradient_is_refused(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(), overlap=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss_of(model)).backward()
    with pytest.raises(UsageError, match=r"GradScaler needs all gradients before any is sent.*overlap=True"):
        scaler.step(optimizer)


def test_gradients_of_single_examples_are_refused_before_any_leaves(local: Local) -> None:
    model = net()
    model[0].weight.grad_sample = None
    with pytest.raises(UsageError, match=r"'0\.weight' has a grad_sample.*Opacus"):
        DistributedOptimizer(model, local(), overlap=True)


def test_rates_and_weights_of_a_step_are_said_before_its_gradients_leave(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(), overlap=True)
    loss_of(model).backward()
    with pytest.raises(UsageError, match="weight is said after gradients were sent"):
        optimizer.step(weight=3)
    optimizer.param_groups[0]["lr"] *= 2
    with pytest.raises(UsageError, match=r"lr of param group 0 was changed between the backward pass.*and step"):
        optimizer.step()


def test_a_written_weight_is_refused_before_any_gradient_leaves(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(), overlap=True)
    loss = loss_of(model)
    with torch.no_grad():
        model[0].bias.add_(1.0)
    with pytest.raises(UsageError, match=r"'0\.bias' was changed by the script"):
        loss.backward()
    optimizer.refresh()
    optimizer.zero_grad()
    (loss_of(model) * float("nan")).backward()
    with pytest.raises(GradientError, match="is nan"):
        optimizer.step()


@pytest.mark.parametrize("accumulate", [0, True, 1.5])
def test_how_many_passes_a_step_has_is_a_number(local: Local, accumulate: Any) -> None:
    with pytest.raises(UsageError, match="accumulate is how many backward passes"):
        DistributedOptimizer(net(), local(), overlap=True, accumulate=accumulate)


class Broken(Exception):
    pass


def half_a_pass(model: nn.Module, step: int) -> None:
    """A backward pass that ends after the last layer's gradients."""

    def fail(_: Any) -> None:
        raise Broken

    handle = model[0].weight.register_hook(fail)
    try:
        loss_of(model, step).backward()
    finally:
        handle.remove()


@pytest.mark.parametrize("end", ["leaves", "steps", "goes on"])
def test_an_exception_in_the_middle_of_a_pass_hangs_nobody(loopback: Start, end: str) -> None:
    def script(kv: KV) -> int:
        model = net()
        optimizer = DistributedOptimizer(model, kv, overlap=True)
        for step in range(3):
            optimizer.zero_grad()
            if kv.rank == 1 and step == 1:
                with pytest.raises(Broken):
                    half_a_pass(model, step)
                if end == "leaves":
                    return kv.clock
                if end == "goes on":
                    with pytest.raises(UsageError, match="sent in a backward pass before this one"):
                        loss_of(model, step).backward()
                    return kv.clock
            else:
                loss_of(model, step).backward()
            optimizer.step()
        return kv.clock

    cluster = loopback(workers=2, chunk_size=1024, optimizer="sgd:lr=0.1")
    assert cluster.run(script, script) == [3, 3 if end == "steps" else 1]
