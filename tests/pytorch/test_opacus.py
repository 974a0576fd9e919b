"""Promises with Opacus: what leaves a worker is clipped example by example and has noise, however a step is spelt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("opacus")

import numpy as np
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer

from ps.errors import UsageError
from ps.torch import DistributedOptimizer
from ps.worker import KV

Local = Callable[..., KV]
BATCH, NOISE = 8, 1000.0


def moved(local: Local, noise: float, *, closure: bool) -> Any:
    """What one step takes off the weights, by SGD with a rate of 1, and the gradient that it would be without noise."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Tanh(), torch.nn.Linear(20, 5))
    distributed = DistributedOptimizer(net, local(optimizer="sgd:lr=1.0"))
    before = torch.cat([p.detach().flatten().clone() for p in net.parameters()])
    model = GradSampleModule(net)
    optimizer = DPOptimizer(distributed, noise_multiplier=noise, max_grad_norm=0.01, expected_batch_size=BATCH)
    x, y = torch.randn(BATCH, 30), torch.randint(0, 5, (BATCH,))

    def passed() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    if closure:
        optimizer.step(passed)
    else:
        passed()
        optimizer.step()
    return (before - torch.cat([p.detach().flatten() for p in net.parameters()])).numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("closure", [False, True])
def test_what_leaves_has_the_noise_and_no_gradient_that_could_be_seen_in_it(local: Local, closure: bool) -> None:
    clipped, noisy = moved(local, 0.0, closure=closure), moved(local, NOISE, closure=closure)
    assert 0 < np.linalg.norm(clipped) <= 0.01 * 1.001, "each example is held to the clip, and so is their mean"
    assert np.std(noisy) == pytest.approx(NOISE * 0.01 / BATCH, rel=0.15)
    correlation = np.corrcoef(clipped, noisy)[0, 1]
    assert abs(correlation) < 5 / np.sqrt(noisy.size)


@pytest.mark.filterwarnings("ignore")
def test_a_wrapped_model_with_overlapping_hooks_is_refused_by_name(local: Local) -> None:
    net = torch.nn.Linear(3, 2)
    GradSampleModule(net)
    with pytest.raises(UsageError, match="has a grad_sample, as Opacus keeps it"):
        DistributedOptimizer(net, local(), overlap=True)


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_wrapped_after_its_hooks_were_made_is_refused_before_anything_leaves(local: Local) -> None:
    net = torch.nn.Linear(3, 2)
    DistributedOptimizer(net, local(), overlap=True)
    model = GradSampleModule(net)
    with pytest.raises(UsageError, match="has a grad_sample, as Opacus keeps it"):
        model(torch.ones(4, 3)).sum().backward()
