"""FedAvgM: FedAvg with momentum at the server."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.number import MOST_RATE, number


@dataclass(frozen=True, slots=True)
class FedAvgM:
    """Step along a discounted sum of the rounds' mean deltas: ``v = momentum * v + delta``, ``w += lr * v``.

    ``delta`` is FedAvg's weighted mean. Hsu, Qi and Brown, Measuring the effects of non-identical data distribution
    for federated visual classification, 2019.
    """

    momentum: float = number(0.9, at_least=0, below=1)
    lr: float = number(1.0, at_least=0, at_most=MOST_RATE)

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(server=f"momentum:lr={self.lr!r},momentum={self.momentum!r}")
