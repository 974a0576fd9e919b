"""FedYogi: algorithm 2 of Reddi et al."""

from __future__ import annotations

import numpy as np
import pytest

from support.regression import check, clients, mean_delta, start, train


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("fedyogi", (0.01, 0.9, 0.99, 1e-3)), ("fedyogi:0.3,beta1=0.6,beta2=0.7,tau=0.9", (0.3, 0.6, 0.7, 0.9))],
)
def test_rounds_are_those_of_the_paper(text: str, numbers: tuple[float, float, float, float]) -> None:
    lr, beta1, beta2, tau = numbers
    x, m, v, expected, signs = start(), 0.0, tau**2, [], set()
    for _ in range(8):
        delta = mean_delta(clients(), x)
        m = beta1 * m + (1 - beta1) * delta
        signs |= {*np.sign(v - delta**2)}
        v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
        x = x + lr * m / (np.sqrt(v) + tau)
        expected.append(x)
    check(train(text, 8), expected)
    assert signs == ({-1.0, 1.0} if tau == 0.9 else {-1.0})
