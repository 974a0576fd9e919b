"""The mean of the contributions that are closest to most others."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from ps.aggregators.krum import scores
from ps.aggregators.least import demand
from ps.dataclass import dataclass
from ps.number import MOST_CLIENTS, number
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class MultiKrum:
    """The mean of the ``m`` contributions that Krum likes best.

    Blanchard et al., Machine learning with adversaries: Byzantine tolerant gradient descent, NeurIPS 2017, where it is
    called Multi-Krum. While ``m`` is 0 it is ``n - f - 2``. Of equal ones the first are taken.
    """

    kind: ClassVar[Literal["weigh"]] = "weigh"

    f: int = number(1, at_least=0, at_most=MOST_CLIENTS, whole=True)
    m: int = number(0, at_least=0, at_most=MOST_CLIENTS, whole=True)

    @property
    def least(self) -> int:
        """2 f + 3, or m + f + 2 if that is more."""
        return max(2 * self.f + 3, self.m + self.f + 2)

    def models(self, contributions: int) -> int:
        """Return all of them."""
        return contributions

    def weights(self, distances: HostArray) -> HostArray:
        """Return 1 / m for the m best, 0 for the others."""
        demand(f"multikrum:f={self.f},m={self.m}", self.least, len(distances))
        m = self.m or len(distances) - self.f - 2
        chosen = np.zeros(len(distances))
        chosen[np.argsort(scores(distances, self.f), kind="stable")[:m]] = 1 / m
        return chosen
