"""The geometric median: the point whose distances to all contributions have the smallest sum."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from ps.aggregators.least import demand
from ps.dataclass import dataclass
from ps.number import number
from ps.xp import HostArray

FAR = 1e16
"""How many times the typical squared distance a contribution may be away. Beyond it, squared distances in double
precision no longer tell how the others lie; what is that far off gets no weight: its pull is bounded anyway."""

STILL = 1e-12
"""The change of all weights together below which another iteration is of no use."""


@dataclass(frozen=True, slots=True)
class GeoMedian:
    """Minimise ``sum_i |z - x_i|`` by Weiszfeld's iteration: ``z = sum a_i x_i``, with ``a_i ~ 1 / |z - x_i|``.

    Pillutla, Kakade and Harchaoui, Robust aggregation for federated learning, IEEE Transactions on Signal Processing
    2022, each contribution counting as one. Fewer than half of them, wherever they are, move it by a bounded amount.

    The estimate is always a convex combination of the contributions, so that ``|z - x_j|^2 = sum_i a_i D_ij -
    sum_ik a_i a_k D_ik / 2``, and the iteration needs their squared distances D only. Distances are smoothed: below
    ``eps`` times the typical one they count as that, which bounds a weight when z arrives at a contribution. It ends
    after ``iterations``, or when the weights stand still; the paper finds three to five enough for learning.
    """

    kind: ClassVar[Literal["weigh"]] = "weigh"
    least: ClassVar[int] = 1

    iterations: int = number(200, at_least=1, at_most=1e6, whole=True)
    eps: float = number(1e-6, at_least=1e-7, below=1)

    def models(self, contributions: int) -> int:
        """Return all of them."""
        return contributions

    def weights(self, distances: HostArray) -> HostArray:
        """Return the weights of the last iteration."""
        n = len(distances)
        demand("geomedian", self.least, n)
        # Its median distance is typical of a contribution, the median of these is typical of all: fewer than half the
        # contributions raise neither beyond the others' distances. It is 0 when half of them are one point, and that
        # is the minimum.
        typical = np.partition(distances, (n - 1) // 2, axis=1)[:, (n - 1) // 2]
        middle = float(np.partition(typical, (n - 1) // 2)[(n - 1) // 2])
        near = typical <= FAR * middle
        weights = np.zeros(n)
        weights[near] = _weiszfeld(distances[np.ix_(near, near)], self.iterations, self.eps**2 * middle)
        return weights


def _weiszfeld(distances: HostArray, iterations: int, smallest: float) -> HostArray:
    """Return the weights; squared distances count as ``smallest`` at least."""
    n = len(distances)
    weights = np.full(n, 1 / n)
    for _ in range(iterations if smallest else 0):
        squares = distances @ weights
        squares -= (weights @ squares) / 2
        pulls = 1 / np.sqrt(np.maximum(squares, smallest))
        pulls /= pulls.sum()
        change = float(np.abs(pulls - weights).sum())
        weights = pulls
        if change < STILL:
            break
    return weights
