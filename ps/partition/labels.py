"""The same number of labels for every client."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.errors import DataError
from ps.number import MOST_CLIENTS, number
from ps.partition.owners import demand, levelled, shares
from ps.xp import HostArray

SWAPS = 10
"""Rounds of exchanges for each label that a client holds, until which labels go together is left to chance."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Give each client ``k`` labels at random, and divide each label's examples equally among who holds it.

    The quantity-based label imbalance, #C = k, of Li et al., Federated learning on non-IID data silos: an
    experimental study, ICDE 2022. Here every label is held by somebody and, as far as there are examples enough,
    by as many clients as any other, so that no example is left over and no client lacks one of its labels.
    """

    by_label: ClassVar[bool] = True
    divides: ClassVar[bool] = True

    k: int = number(2, at_least=1, at_most=MOST_CLIENTS, whole=True)

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return the shares; DataError when that cannot be: too few labels, clients or examples."""
        demand(len(classes), clients, self.k, "label")
        counts = np.bincount(classes)
        self._check(counts, clients)
        chosen = _mixed(_first(counts, clients, self.k), rng)
        holders = np.split(_clients_by_class(chosen), np.bincount(chosen.ravel()).cumsum()[:-1])
        order = rng.permutation(len(classes))
        order = order[np.argsort(classes[order], kind="stable")]
        owners = np.empty(len(classes), np.int64)
        for members, who in zip(np.split(order, counts.cumsum()[:-1]), holders, strict=True):
            owners[members] = rng.permutation(who)[np.arange(len(members)) % len(who)]
        return shares(owners, clients)

    def _check(self, counts: HostArray, clients: int) -> None:
        if self.k > len(counts):
            raise DataError(f"{self.k} labels for each client, but there are {len(counts)}. Take labels:{len(counts)}")
        if self.k * clients < len(counts):
            raise DataError(
                f"{clients} clients with {self.k} of {len(counts)} labels each leave some labels to nobody. "
                f"Take {-(-len(counts) // self.k)} clients, or labels:{-(-len(counts) // clients)}"
            )
        room = int(np.minimum(counts, clients).sum())
        if room < self.k * clients:
            raise DataError(
                f"{clients} clients with {self.k} labels each: labels with fewer examples than clients leave places "
                f"for {room} of these {self.k * clients}. Take fewer clients or labels"
            )


def _first(counts: HostArray, clients: int, k: int) -> HostArray:
    """Return some choice of labels, (clients, k): no label twice in a row, nor in more rows than it has examples.

    Labels one after another, dealt to the clients in turn: who takes a label of at most ``clients`` places takes it
    once.
    """
    places = levelled(np.minimum(counts, clients), k * clients)
    return np.repeat(np.arange(len(counts)), places).reshape(k, clients).T.copy()


def _mixed(chosen: HostArray, rng: np.random.Generator) -> HostArray:
    """Return the choice after random exchanges of one label between two clients that both lack the other's."""
    clients, k = chosen.shape
    for _ in range(SWAPS * k):
        pairs = rng.permutation(clients)[: clients // 2 * 2].reshape(2, -1)
        slots = rng.integers(k, size=pairs.shape)
        left, right = chosen[pairs[0], slots[0]], chosen[pairs[1], slots[1]]
        known = (chosen[pairs[0]] == right[:, None]) | (chosen[pairs[1]] == left[:, None])
        free = ~known.any(axis=1)
        chosen[pairs[0, free], slots[0, free]] = right[free]
        chosen[pairs[1, free], slots[1, free]] = left[free]
    return chosen


def _clients_by_class(chosen: HostArray) -> HostArray:
    """Return the clients that hold class 0, then those of class 1, and so on."""
    return np.asarray(np.argsort(chosen.ravel(), kind="stable") // chosen.shape[1])
