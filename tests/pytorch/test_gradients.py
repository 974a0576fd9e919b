"""Promises of what DistributedOptimizer sends: what the gradient is when step is called, however it came there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn

from ps.errors import StateError
from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer
from ps.worker import KV
from support.torch_net import alone, here, loss_of, net, same, values, whole
from support.torch_reference import seeded

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own
Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
MODES = ["sync", "async", "ssp"]


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
