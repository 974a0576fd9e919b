"""FedNova: deltas for each local step, so that who does more steps does not count for more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.errors import UsageError


@dataclass(frozen=True, slots=True)
class FedNova:
    """Divide each delta by its effective local steps, and multiply their weighted mean with the mean of these.

    ``w += tau_eff * sum_i p_i * delta_i / |a_i|``, ``tau_eff = sum_i p_i * |a_i|``, where client i has the share p_i of
    the examples of those who take part, and ``|a_i|`` is the sum of the weights with which its gradients are in its
    delta: tau_i, its steps, for plain sgd; with momentum rho ``(tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho)``.
    Wang et al., Tackling the objective inconsistency problem in heterogeneous federated optimization, NeurIPS 2020.
    The learning rate is constant within a round. With equal numbers of steps it is FedAvg.
    """

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(scale=scale, factor=factor, divides=True)


def scale(steps: float, staleness: int) -> float:
    """Return 1 / steps; a delta of no steps is 0, however it is scaled."""
    return 1 / max(steps, 1)


def factor(weights: Sequence[float], steps: Sequence[float]) -> float:
    """Return the weighted mean of ``steps``; UsageError when the weights add up to nothing."""
    total = math.fsum(weights)
    if not total > 0:
        raise UsageError(f"FedNova weighs {len(weights)} contributions by examples, but these add up to {total:g}")
    return math.fsum(weight * count for weight, count in zip(weights, steps, strict=True)) / total
