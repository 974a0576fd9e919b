"""SCAFFOLD: control variates that take out of each local step what the client's data has of its own."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.xp import Array


@dataclass(frozen=True, slots=True)
class Scaffold:
    """Correct each local step by how the client's gradient differs from everybody's: ``g += c - c_i``.

    After K steps at learning rate lr from x to y the client's control variate is ``c_i - c + (x - y) / (K lr)``
    (option II), and both ``y - x`` and what c_i has changed by are sent. The server, of N clients with S taking part:
    ``x += lr_g * mean(y - x)``, ``c += S / N * mean(change of c_i)``, means over those S. Karimireddy et al., SCAFFOLD:
    stochastic controlled averaging for federated learning, ICML 2020, algorithm 1. All control variates are 0 at
    first. Option II takes a delta for a sum of gradients, and K for how many: with local momentum these are effective
    steps. For ``c = mean(c_i)`` to hold, control variates are never compressed, and always combined as a plain mean.
    """

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(aggregator="mean", control=True, divides=True, correct=correct, renew=renew)


def correct(gradient: Array, weights: Array, anchor: Array, control: Array | None, own: Array | None) -> None:
    """Add the server's control variate and take the client's away, in place."""
    gradient += control
    gradient -= own


def renew(own: Array, control: Array, anchor: Array, weights: Array, steps: float, lr: float) -> Array:
    """Return the mean gradient of the client's local steps; ``own`` again when they had no length."""
    if steps * lr == 0:  # a schedule's end: nothing moved, and nothing was learnt about gradients
        return own.copy()
    gradient = anchor - weights
    gradient *= 1 / (steps * lr)
    gradient -= control
    gradient += own
    return gradient
