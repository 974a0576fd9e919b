"""FedProx: local steps that are pulled back to where they began."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.number import number
from ps.xp import Array


@dataclass(frozen=True, slots=True)
class FedProx:
    """Each client minimises its loss plus ``mu / 2 * |w - w_t|²``: ``g += mu * (w - w_t)`` before each local step.

    Li et al., Federated optimization in heterogeneous networks, MLSys 2020. The clients may do different numbers of
    steps, the paper's gamma-inexact solutions. Deltas are weighed as FedAvg's are; with mu = 0 it is FedAvg.
    """

    mu: float = number(0.01, at_least=0)

    def correct(self, gradient: Array, weights: Array, anchor: Array, control: Array | None, own: Array | None) -> None:
        """Add the gradient of the proximal term, in place."""
        pull = weights - anchor
        pull *= self.mu
        gradient += pull

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(correct=self.correct, proximal=self.mu)
