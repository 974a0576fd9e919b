"""FedNova: normalised deltas."""

from __future__ import annotations

import numpy as np
import pytest

from ps.algorithms import effective_steps
from ps.algorithms.fednova import factor, scale
from ps.errors import UsageError
from ps.optim import OPTIMIZERS
from support.regression import LR, Federation, check, clients, optimum, start, train


def test_rounds_are_those_of_the_paper() -> None:
    members, x, expected = clients(), start(), []
    share = np.array([20, 7, 12, 31]) / 70
    for _ in range(8):
        directions, lengths = [], []
        for member in members:
            y, gradients = x, []
            for _ in range(member.steps):
                gradients.append(member.gradient(y))
                y = y - LR * gradients[-1]
            a = np.ones(member.steps)
            directions.append(a @ np.array(gradients) / a.sum())
            lengths.append(a.sum())
        x = x - (share @ lengths) * LR * (share @ np.array(directions))
        expected.append(x)
    check(train("fednova", 8), expected)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_rounds_with_local_momentum_are_those_of_the_paper(name: str, rho: float) -> None:
    """The accumulation vector a is taken from how momentum itself treats single gradients, in float64."""
    members, x, expected = clients(), start(), []
    share = np.array([20, 7, 12, 31]) / 70
    for _ in range(8):
        directions, lengths = [], []
        for member in members:
            y, buffer, gradients = x, np.zeros_like(x), []
            a = np.zeros(member.steps)
            of_gradients = np.eye(member.steps)
            in_buffer = np.zeros(member.steps)
            for k in range(member.steps):
                gradients.append(member.gradient(y))
                buffer, in_buffer = rho * buffer + gradients[-1], rho * in_buffer + of_gradients[k]
                ahead = name == "nesterov"
                y = y - LR * (gradients[-1] + rho * buffer if ahead else buffer)
                a += of_gradients[k] + rho * in_buffer if ahead else in_buffer
            directions.append(a @ np.array(gradients) / a.sum())
            lengths.append(a.sum())
        x = x - (share @ lengths) * LR * (share @ np.array(directions))
        expected.append(x)
    check(train("fednova", 8, local=f"{name}:lr={LR},momentum={rho}"), expected)


def test_effective_steps_are_the_papers_sum() -> None:
    """|a| of section 4.1: a = [1 - rho^tau, 1 - rho^(tau - 1), ..., 1 - rho] / (1 - rho)."""
    for tau in (1, 2, 7, 150):
        a = (1 - 0.9 ** np.arange(tau, 0, -1)) / (1 - 0.9)
        momentum = OPTIMIZERS.parse("momentum:momentum=0.9").build()
        assert effective_steps(momentum, tau) == pytest.approx(a.sum(), rel=1e-12)
        assert effective_steps(OPTIMIZERS.parse("sgd").build(), tau) == tau


def test_with_equal_numbers_of_steps_it_is_fedavg() -> None:
    equal = clients(steps=(4, 4, 4, 4))
    nova, average = Federation("fednova", equal), Federation("fedavg", equal)
    for chosen in ((0, 1, 2, 3), (1, 3), (2,)):
        np.testing.assert_allclose(nova.round(chosen), average.round(chosen), rtol=1e-12)


def test_who_does_more_steps_does_not_pull_the_optimum_to_its_side() -> None:
    members = clients(steps=(60, 1, 1, 1))
    distances = {}
    for text in ("fednova", "fedavg"):
        federation = Federation(text, members, local="sgd:lr=0.001")
        for _ in range(1000):
            federation.round()
        distances[text] = float(np.linalg.norm(federation.weights - optimum(members)))
    assert distances["fednova"] < distances["fedavg"] / 10


def test_the_factor_undoes_the_scale_whatever_the_weights_add_up_to() -> None:
    for weights in ([3.0, 1.0], [0.75, 0.25], [3e9, 1e9]):
        assert factor(weights, [2, 6]) == pytest.approx(3.0)
    assert scale(4, 9) == 0.25
    assert scale(0, 0) == 1.0


@pytest.mark.parametrize("weights", [[], [0.0, 0.0]])
def test_contributions_without_examples_are_refused(weights: list[float]) -> None:
    with pytest.raises(UsageError, match=f"{len(weights)} contributions by examples"):
        factor(weights, [1] * len(weights))
