"""FedYogi: Yogi at the server."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number


@dataclass(frozen=True, slots=True)
class FedYogi:
    """Give FedAvg's mean delta to Yogi: ``w += lr * m / (√v + tau)``, v is tau² at first.

    ``m = beta1 * m + (1 - beta1) * delta``, ``v -= (1 - beta2) * delta² * sign(v - delta²)``. Reddi et al., Adaptive
    federated optimization, ICLR 2021, algorithm 2. The server optimizer does all of it: ``ps.optim.fedyogi``.
    """

    lr: float = number(0.01, at_least=0, at_most=MOST_RATE)
    beta1: float = number(0.9, at_least=0, at_most=MAX_BETA)
    beta2: float = number(0.99, at_least=0, at_most=MAX_BETA)
    tau: float = number(1e-3, at_least=1e-30)

    def build(self) -> Algorithm:
        """Return the record."""
        numbers = f"lr={self.lr!r},beta1={self.beta1!r},beta2={self.beta2!r},tau={self.tau!r}"
        return Algorithm(server=f"fedyogi:{numbers}")
