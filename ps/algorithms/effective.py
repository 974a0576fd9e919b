"""Effective steps: of how many gradients a client's delta is the sum, which momentum makes more than its steps."""

from __future__ import annotations

from ps.optim import Optimizer
from ps.optim.momentum import Momentum
from ps.optim.nesterov import Nesterov
from ps.optim.sgd import SGD

SUMS = "sgd, momentum or nesterov"
"""The optimizers whose steps are sums of gradients: those with effective steps."""


def sums_gradients(optimizer: Optimizer) -> bool:
    """Whether what an optimizer does in some steps is a weighted sum of their gradients, at a constant rate."""
    return isinstance(optimizer, SGD | Momentum | Nesterov)


def effective_steps(optimizer: Optimizer, steps: int) -> float:
    """Return ``|a|``, the sum of the weights with which ``steps`` gradients are in ``(w_0 - w) / lr``.

    Wang et al., Tackling the objective inconsistency problem in heterogeneous federated optimization, NeurIPS 2020:
    for sgd each weighs 1. With momentum rho, 0 at first, the k-th weighs ``(1 - rho^(steps - k + 1)) / (1 - rho)``, in
    all ``(steps - rho (1 - rho^steps) / (1 - rho)) / (1 - rho)``; with Nesterov's, one power of rho more. Where deltas
    are no sums of gradients it is the number of steps.
    """
    if not isinstance(optimizer, Momentum | Nesterov):
        return float(steps)
    rho = optimizer.momentum
    first = rho * rho if isinstance(optimizer, Nesterov) else rho
    return (steps - first * (1 - rho**steps) / (1 - rho)) / (1 - rho)
