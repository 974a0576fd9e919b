"""Shares of unequal size, with labels by chance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_CLIENTS, number
from ps.partition.owners import demand, shares, skewed, topped_up
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Quantity:
    """Shuffle, and cut into shares whose proportions are drawn from a Dirichlet(``alpha``).

    The quantity skew of Li et al., Federated learning on non-IID data silos: an experimental study, ICDE 2022. Each
    client holds at least ``least`` examples: where the draw gave fewer, the largest shares give.
    """

    by_label: ClassVar[bool] = False
    divides: ClassVar[bool] = True

    alpha: float = number(0.5, above=0, at_most=1e9)
    least: int = number(1, at_least=1, at_most=MOST_CLIENTS, whole=True)

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return the shares; DataError when there are not ``least`` examples for each client."""
        n = len(classes)
        demand(n, clients, self.least)
        owners = rng.permutation(skewed(n, clients, self.alpha, rng))
        return shares(topped_up(owners, clients, self.least, rng), clients)
