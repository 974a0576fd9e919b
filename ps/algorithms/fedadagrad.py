"""FedAdagrad: Adagrad at the server."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.number import MAX_BETA, MOST_RATE, number


@dataclass(frozen=True, slots=True)
class FedAdagrad:
    """Give FedAvg's mean delta to Adagrad: ``v += delta²``, ``w += lr * m / (√v + tau)``, v is tau² at first.

    ``m = beta1 * m + (1 - beta1) * delta``; beta1 is 0 in the paper's experiments. Reddi et al., Adaptive federated
    optimization, ICLR 2021, algorithm 2. The server optimizer does all of it: ``ps.optim.fedadagrad``.
    """

    lr: float = number(0.1, at_least=0, at_most=MOST_RATE)
    beta1: float = number(0.0, at_least=0, at_most=MAX_BETA)
    tau: float = number(1e-3, at_least=1e-30)

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(server=f"fedadagrad:lr={self.lr!r},beta1={self.beta1!r},tau={self.tau!r}")
