"""FedAvg: the mean of what the clients have learnt."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class FedAvg:
    """Each client takes local steps from the server's weights; their mean is the new weights.

    ``w_{t+1} = sum_k (n_k / n) w^k_{t+1}``, where ``w^k_{t+1}`` is what client k makes of ``w_t``, n_k its examples and
    n those of all who took part. The same is ``w_{t+1} = w_t + sum_k (n_k / n) delta_k``: gradient descent at
    learning rate 1. McMahan et al., Communication-efficient learning of deep networks from decentralized data,
    AISTATS 2017.
    """

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm()
