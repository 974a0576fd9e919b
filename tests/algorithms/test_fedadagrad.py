"""FedAdagrad: algorithm 2 of Reddi et al."""

from __future__ import annotations

import numpy as np
import pytest

from support.regression import check, clients, mean_delta, start, train


@pytest.mark.parametrize(
    ("text", "numbers"), [("fedadagrad", (0.1, 0.0, 1e-3)), ("fedadagrad:0.3,beta1=0.6,tau=0.2", (0.3, 0.6, 0.2))]
)
def test_rounds_are_those_of_the_paper(text: str, numbers: tuple[float, float, float]) -> None:
    lr, beta1, tau = numbers
    x, m, v, expected = start(), 0.0, tau**2, []
    for _ in range(8):
        delta = mean_delta(clients(), x)
        m = beta1 * m + (1 - beta1) * delta
        v = v + delta**2
        x = x + lr * m / (np.sqrt(v) + tau)
        expected.append(x)
    check(train(text, 8), expected)
