"""FedBuff: updates out of a buffer, with deltas that are older than the weights."""

from __future__ import annotations

import numpy as np
import pytest

from ps.algorithms.fedbuff import scale
from support.regression import LR, Federation, check, clients, start

ARRIVALS = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 0), (2, 2), (0, 1), (3, 1), (1, 3), (2, 0), (0, 5)]
"""Clients in the order in which their deltas arrive, and the version each was trained from."""


@pytest.mark.parametrize("size", [1, 2, 3])
def test_updates_are_those_of_the_paper(size: int) -> None:
    members, w, versions, buffer, expected = clients(), start(), [start()], [], []
    begun = [(i, min(version, arrival // size)) for arrival, (i, version) in enumerate(ARRIVALS)]
    for i, version in begun:
        y = versions[version]
        for _ in range(members[i].steps):
            y = y - LR * members[i].gradient(y)
        staleness = len(versions) - 1 - version
        buffer.append((versions[version] - y) / np.sqrt(1 + staleness))
        if len(buffer) == size:
            w = w - 1.0 * sum(buffer) / size
            versions.append(w)
            expected.append(w)
            buffer = []

    federation = Federation(f"fedbuff:{size}", members)
    assert federation.algorithm.buffer == size
    waiting = []
    for i, version in begun:
        staleness = len(federation.history) - 1 - version
        waiting.append((i, *federation.task(i, federation.history[version]), staleness))
        if len(waiting) == federation.algorithm.buffer:
            federation.update(waiting)
            waiting = []
    check(federation.history[1:], expected)
    assert len(expected) == 12 // size


def test_an_older_delta_counts_for_less_and_a_fresh_one_for_all() -> None:
    assert [scale(steps, staleness) for steps, staleness in ((1, 0), (9, 3), (2, 99))] == [1.0, 0.5, 0.1]
