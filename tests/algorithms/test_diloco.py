"""DiLoCo: an AdamW in each client that goes on, Nesterov's momentum outside."""

from __future__ import annotations

import numpy as np
import pytest

from support.regression import Federation, check, clients, start


@pytest.mark.parametrize(
    ("text", "lr", "momentum"), [("diloco", 0.7, 0.9), ("diloco:0.3", 0.3, 0.9), ("diloco:lr=1,momentum=0.5", 1, 0.5)]
)
def test_rounds_are_those_of_the_paper(text: str, lr: float, momentum: float) -> None:
    members = clients(steps=(4, 4, 4, 4))
    inner = [(np.zeros(5), np.zeros(5), 0)] * 4
    theta, b, expected = start(), np.zeros(5), []
    for _ in range(8):
        ends = []
        for i, member in enumerate(members):
            w, (m, v, t) = theta, inner[i]
            for _ in range(4):
                g, t = member.gradient(w), t + 1
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                w = w - 1e-3 * 0.1 * w
                w = w - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            inner[i] = m, v, t
            ends.append(w)
        outer = theta - np.mean(ends, axis=0)
        b = momentum * b + outer
        theta = theta - lr * (outer + momentum * b)
        expected.append(theta)
    federation = Federation(text, members)
    check([federation.round() for _ in range(8)], expected)
    assert federation.algorithm.everyone
