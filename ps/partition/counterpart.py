"""Counterpart: the test examples by which one client is judged, mixed as its own examples are."""

from __future__ import annotations

import numpy as np

from ps import xp
from ps.errors import DataError
from ps.partition.division import Partition, labelled, whole_numbers
from ps.partition.rng import COUNTERPART, generator
from ps.xp import Array, HostArray

LEAST = 20
"""Test examples, at least, even where that bends the proportions: fewer say nothing."""
_NONE = np.empty(0, np.int64)


def counterpart(partition: Partition, labels_train: Array, labels_test: Array, client: int, seed: int = 0) -> HostArray:
    """Return the indices of test examples with the proportions of labels that this client trains on.

    int64, increasing, drawn without replacement; another client may have some of the same. There are
    ``len(labels_test) / clients`` of them, less where a label would not suffice, but at least 20, for which other
    labels of this client's stand in; fewer only if there are no more test examples with its labels. Where examples
    have no labels any will do, and with ``own`` all of them.

    DataError when a label array does not belong to this partition, or no test example has a label of this client's.
    """
    return Counterparts(partition, labels_train, labels_test, seed).of(client)


class Counterparts:
    """The counterparts of many clients, for which test examples are looked up by label once."""

    def __init__(self, partition: Partition, labels_train: Array, labels_test: Array, seed: int = 0) -> None:
        """See ``counterpart``. DataError when a label array does not belong to this partition."""
        self._partition, self._seed = partition, seed
        labels_train, labels_test = xp.asarray(labels_train), xp.asarray(labels_test)
        if len(labels_train) != partition.examples:
            raise DataError(f"{len(labels_train)} training labels, but {partition.examples} examples are divided")
        self._n = len(labels_test)
        self._divides = bool(partition.spec.build().divides)
        self._labels: HostArray | None = None
        self._places: dict[int, HostArray] = {}
        """Label -> the test examples that have it, in their order."""
        if self._divides and labelled(labels_train):
            self._labels = whole_numbers(labels_train, "a counterpart")
            tests = whole_numbers(labels_test, "a counterpart")
            order = np.argsort(tests, kind="stable")
            labels, starts = np.unique(tests[order], return_index=True)
            self._places = dict(zip(labels.tolist(), np.split(order, starts[1:]), strict=True)) if len(labels) else {}

    def of(self, client: int) -> HostArray:
        """Return those of one client. DataError when no test example has a label of its."""
        share, n = self._partition.share(client), self._n
        if not self._divides:
            return np.arange(n)
        rng = generator(self._seed, COUNTERPART, client)
        least, wanted = min(LEAST, n), max(min(LEAST, n), round(n / self._partition.clients))
        if self._labels is None:
            return np.sort(rng.choice(n, wanted, replace=False))
        mine, weights = np.unique(self._labels[share], return_counts=True)
        candidates = [self._places.get(label, _NONE) for label in mine.tolist()]
        room = np.array([len(found) for found in candidates])
        if not room.any():
            shown = ", ".join(map(str, mine[:10])) + ", …" * (len(mine) > 10)
            raise DataError(f"no test example has a label that client {client} trains on ({shown})")
        counts = _counts(weights, room, least, wanted)
        drawn = [rng.choice(found, count, replace=False) for found, count in zip(candidates, counts, strict=True)]
        return np.sort(np.concatenate(drawn))


def _counts(weights: HostArray, room: HostArray, least: int, wanted: int) -> HostArray:
    """Return how many examples of each label to take: in proportion to ``weights``, at most ``room``."""
    there = room > 0
    weights = np.where(there, weights, 0)
    fits = int((room[there] * weights.sum() / weights[there]).min())
    counts = np.zeros(len(room), np.int64)
    missing = min(max(least, min(fits, wanted)), int(room.sum()))
    while missing:  # a second time only if a label did not suffice
        open_ = np.where(counts < room, weights, 0)
        exact = missing * open_ / open_.sum()
        more = np.floor(exact).astype(np.int64)
        more[np.argsort(more - exact, kind="stable")[: missing - int(more.sum())]] += 1
        taken = np.minimum(more, room - counts)
        counts, missing = counts + taken, missing - int(taken.sum())
    return counts
