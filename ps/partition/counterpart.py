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


def counterpart(partition: Partition, labels_train: Array, labels_test: Array, client: int, seed: int = 0) -> HostArray:
    """Return the indices of test examples with the proportions of labels that this client trains on.

    int64, increasing, drawn without replacement; another client may have some of the same. There are
    ``len(labels_test) / clients`` of them, less where a label would not suffice, but at least 20, for which other
    labels of this client's stand in; fewer only if there are no more test examples with its labels. Where examples
    have no labels any will do, and with ``own`` all of them.

    DataError when a label array does not belong to this partition, or no test example has a label of this client's.
    """
    labels_train, labels_test = xp.asarray(labels_train), xp.asarray(labels_test)
    if len(labels_train) != partition.examples:
        raise DataError(f"{len(labels_train)} training labels, but {partition.examples} examples are divided")
    share, n = partition.share(client), len(labels_test)
    if not partition.spec.build().divides:
        return np.arange(n)
    rng = generator(seed, COUNTERPART, client)
    least, wanted = min(LEAST, n), max(min(LEAST, n), round(n / partition.clients))
    if not labelled(labels_train):
        return np.sort(rng.choice(n, wanted, replace=False))
    mine, weights = np.unique(whole_numbers(labels_train, "a counterpart")[share], return_counts=True)
    tests = whole_numbers(labels_test, "a counterpart")
    candidates = [np.flatnonzero(tests == label) for label in mine]
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
