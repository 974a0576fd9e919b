"""The one contribution that is closest to most others."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from ps.aggregators.least import demand
from ps.dataclass import dataclass
from ps.number import MOST_CLIENTS, number
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Krum:
    """Take the contribution whose squared distances to its ``n - f - 2`` closest others have the smallest sum.

    Blanchard et al., Machine learning with adversaries: Byzantine tolerant gradient descent, NeurIPS 2017. Up to ``f``
    of n contributions may be anything if ``n >= 2 f + 3``. Of equal ones the first is taken.
    """

    kind: ClassVar[Literal["weigh"]] = "weigh"

    f: int = number(1, at_least=0, at_most=MOST_CLIENTS, whole=True)

    @property
    def least(self) -> int:
        """2 f + 3."""
        return 2 * self.f + 3

    def models(self, contributions: int) -> int:
        """Return all of them."""
        return contributions

    def weights(self, distances: HostArray) -> HostArray:
        """Return 1 for the one, 0 for the others."""
        demand(f"krum:f={self.f}", self.least, len(distances))
        chosen = np.zeros(len(distances))
        chosen[np.argmin(scores(distances, self.f))] = 1
        return chosen


def scores(distances: HostArray, f: int) -> HostArray:
    """Return each contribution's sum of squared distances to its ``n - f - 2`` closest others, float64 (n,).

    ``distances``: as for ``Weigh.weights``, n at least f + 3.
    """
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    others.sort(axis=1)  # a partition would add them up in an order that depends on that of the contributions
    scored: HostArray = others[:, : len(others) - f - 2].sum(axis=1)
    return scored
