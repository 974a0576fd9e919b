"""Unequal mixtures of labels, and unequal shares with them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_CLIENTS, number
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

    With ``balance`` 1 who already has ``n / clients`` examples gets none of the labels that follow, as in NIID-Bench,
    Li et al., Federated learning on non-IID data silos: an experimental study, ICDE 2022: ``dirichlet:0.5,balance=1,
    least=10`` is its label skew, with sizes that differ less than those of Hsu et al.
    """

    by_label: ClassVar[bool] = True
    divides: ClassVar[bool] = True

    alpha: float = number(0.5, above=0, at_most=1e9)
    least: int = number(1, at_least=1, at_most=MOST_CLIENTS, whole=True)
    balance: int = number(0, at_least=0, at_most=1, whole=True)

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
        sizes = np.zeros(clients, np.int64)
        for members in np.split(order, np.bincount(classes).cumsum()[:-1]):
            free = sizes * clients < len(classes) if self.balance else None
            owners[members] = skewed(len(members), clients, self.alpha, rng, free)
            sizes += np.bincount(owners[members], minlength=clients)
        return owners
