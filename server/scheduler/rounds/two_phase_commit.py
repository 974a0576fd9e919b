"""TwoPhaseCommit: when the next phase of the ledger is due, so that a round becomes a version on all servers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ps.aggregators import Aggregator
from ps.algorithms import Algorithm
from ps.errors import BadMessage
from ps.protocol.messages import Distances
from ps.server.scheduler.rounds.ledger import Ledger
from ps.xp import HostArray


class TwoPhaseCommit:
    """Brings a full ledger over ``prepare`` to ``publish``.

    Before that comes ``measure``, where the aggregator wants distances, or ``sum``, where contributions are masked: the
    sum is to be on all disks before anything is told that could be told but once.
    """

    def __init__(
        self, owners: frozenset[int], algorithm: Algorithm, aggregator: Aggregator, *, masked: bool = False
    ) -> None:
        """``owners`` are the servers that have a part of the model."""
        self._masked = masked
        self._owners = owners
        self._algorithm = algorithm
        self._aggregator = aggregator
        self._distances: dict[int, HostArray] = {}

    def begin(self, ledger: Ledger, weights: Sequence[float], steps: Sequence[float], clients: int) -> None:
        """Nothing more is to be counted. ``weights`` and ``steps`` are those of the contributions that are."""
        ledger.factor = self._algorithm.factor(weights, steps) if weights else 1.0
        ledger.share = len(weights) / clients
        ledger.phase = "measure" if self._aggregator.kind == "weigh" else "sum" if self._masked else "prepare"
        self._distances.clear()

    def measured(self, ledger: Ledger, server: int, message: Distances, payload: Any) -> None:
        """Take what a server has measured. Raises BadMessage when the payload is not of that size."""
        count = ledger.counted
        if ledger.phase != "measure" or (message.attempt, message.count) != (ledger.attempt, count):
            return
        if memoryview(payload).nbytes != 8 * count * count:
            raise BadMessage(f"distances of {count} contributions have {8 * count * count} bytes")
        self._distances[server] = np.frombuffer(payload, np.float64).reshape(count, count).copy()

    def go_on(self, ledger: Ledger) -> bool:
        """Take the next step if it is due; return whether. UsageError when the aggregator can not use what there is."""
        if ledger.phase == "measure" and self._distances.keys() >= self._owners:
            assert self._aggregator.kind == "weigh"
            total = sum(self._distances[server] for server in sorted(self._owners))
            ledger.weights = tuple(float(weight) for weight in self._aggregator.weights(np.asarray(total)))
            ledger.phase = "prepare"
            return True
        if ledger.phase == "prepare" and ledger.all_are("prepared"):
            ledger.phase = "publish"
            return True
        return False
