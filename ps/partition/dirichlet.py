"""Unequal mixtures of labels, and unequal shares with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ps.optim.spec import number
from ps.partition.owners import demand, shares, skewed, topped_up
from ps.xp import HostArray

REDRAWS = 10
"""Draws, at most, until every client has enough by chance alone."""


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """For each label, divide its examples in proportions over the clients drawn from a Dirichlet(``alpha``).

    Hsu et al., Measuring the effects of non-identical data distribution for federated visual classification, 2019,
    whose clients draw proportions over labels; drawn for each label, as by Yurochkin et al., Bayesian nonparametric
    federated learning of neural networks, ICML 2019, every example is used. A small ``alpha`` leaves each label to
    few clients; from 100 on there is little difference from iid.

    Each client holds at least ``least`` examples: it is drawn again up to 10 times, then the largest shares give.
    """

    by_label: ClassVar[bool] = True

    alpha: float = number(0.5, above=0, at_most=1e9)
    least: int = number(1, at_least=1, whole=True)

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return the shares; DataError when there are not ``least`` examples for each client."""
        demand(len(classes), clients, self.least)
        for _ in range(REDRAWS):
            owners = self._draw(classes, clients, rng)
            if np.bincount(owners, minlength=clients).min() >= self.least:
                break
        return shares(topped_up(owners, clients, self.least, rng), clients)

    def _draw(self, classes: HostArray, clients: int, rng: np.random.Generator) -> HostArray:
        order = rng.permutation(len(classes))
        order = order[np.argsort(classes[order], kind="stable")]
        owners = np.empty(len(classes), np.int64)
        for members in np.split(order, np.bincount(classes).cumsum()[:-1]):
            owners[members] = skewed(len(members), clients, self.alpha, rng)
        return owners
