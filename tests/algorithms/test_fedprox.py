"""FedProx: local steps on the loss and a proximal term."""

from __future__ import annotations

import numpy as np
import pytest

from ps import xp
from ps.algorithms import ALGORITHMS
from support.regression import LR, Client, Federation, check, clients, start, train


@pytest.mark.parametrize(("text", "mu"), [("fedprox", 0.01), ("fedprox:2", 2.0)])
def test_rounds_are_those_of_the_paper(text: str, mu: float) -> None:
    def solve(member: Client, anchor: np.ndarray) -> np.ndarray:
        """Descend on h(w) = F(w) + mu / 2 |w - anchor|²."""
        w = anchor
        for _ in range(member.steps):
            residual = member.x @ w - member.y
            w = w - LR * (member.x.T @ residual / len(member.y) + mu * (w - anchor))
        return w

    w, expected = start(), []
    for _ in range(8):
        w = sum(len(member.y) / 70 * solve(member, w) for member in clients())
        expected.append(w)
    check(train(text, 8), expected)


def test_without_mu_it_is_fedavg() -> None:
    np.testing.assert_array_equal(train("fedprox:0", 5), train("fedavg", 5))


def test_the_larger_mu_the_nearer_the_clients_stay() -> None:
    many = clients(steps=(40, 40, 40, 40))
    lengths = [
        np.linalg.norm(Federation(text, many).task(0, start())[0]) for text in ("fedprox:0", "fedprox:1", "fedprox:9")
    ]
    assert lengths[0] > 1.5 * lengths[1] > 3 * lengths[2] > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stacked_clients_and_device_arrays_are_corrected_alike(dtype: str, strict_device: xp.Device) -> None:
    correct = ALGORITHMS.parse("fedprox:0.5").build().correct
    assert correct is not None
    rng = np.random.default_rng(0)
    weights, gradient = rng.standard_normal((2, 3, 4, 2)).astype(dtype)
    anchor = rng.standard_normal((4, 2)).astype(dtype)
    for device in (xp.CPU, strict_device):
        found = device.array(gradient)
        correct(found, device.array(weights), device.array(anchor), None, None)
        assert found.dtype == dtype
        np.testing.assert_array_equal(xp.to_host(found), gradient + (weights - anchor) * np.dtype(dtype).type(0.5))
