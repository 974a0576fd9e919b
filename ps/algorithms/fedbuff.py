"""FedBuff: asynchronous rounds, an update as soon as there are so many deltas."""

from __future__ import annotations

import math

from ps.algorithms.algorithm import Algorithm
from ps.dataclass import dataclass
from ps.number import MOST_COMBINED, number


@dataclass(frozen=True, slots=True)
class FedBuff:
    """Collect ``buffer`` deltas, whatever weights their clients began with, then ``w += lr * mean(s * delta)``.

    ``s = 1 / √(1 + staleness)``, where the staleness is the number of updates since the client began. Nguyen et al.,
    Federated learning with buffered asynchronous aggregation, AISTATS 2022. The mean is over the deltas, not over s,
    so that an update out of old deltas is a shorter one.
    """

    buffer: int = number(10, at_least=1, at_most=MOST_COMBINED, whole=True)

    def build(self) -> Algorithm:
        """Return the record."""
        return Algorithm(aggregator="mean", buffer=self.buffer, scale=scale)


def scale(steps: float, staleness: int) -> float:
    """Return 1 / √(1 + staleness)."""
    return 1 / math.sqrt(1 + staleness)
