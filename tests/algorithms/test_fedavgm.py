"""FedAvgM: momentum over the rounds."""

from __future__ import annotations

import numpy as np
import pytest

from support.regression import check, clients, mean_delta, start, train


@pytest.mark.parametrize(
    ("text", "beta", "lr"),
    [("fedavgm", 0.9, 1.0), ("fedavgm:0.5", 0.5, 1.0), ("fedavgm:momentum=0.8,lr=0.3", 0.8, 0.3)],
)
def test_rounds_are_those_of_the_paper(text: str, beta: float, lr: float) -> None:
    w, v, expected = start(), 0.0, []
    for _ in range(8):
        v = beta * v - mean_delta(clients(), w)
        w = w - lr * v
        expected.append(w)
    check(train(text, 8), expected)


def test_without_momentum_it_is_fedavg() -> None:
    np.testing.assert_array_equal(train("fedavgm:0", 5), train("fedavg", 5))
