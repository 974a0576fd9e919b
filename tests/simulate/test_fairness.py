"""Promises of a federation to every client alike: neither its number nor its speed decides whether it ever counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.protocol.layout import Layout
from ps.server.scheduler.rounds import assignments
from ps.simulate.availability import Always, Availability, parse_availability
from ps.simulate.counters import Counters
from ps.simulate.engine import Engine
from ps.simulate.in_process_cluster import InProcessCluster
from ps.simulate.local_work import LocalWork
from ps.simulate.speed import Speed, parse_speed
from ps.simulate.task import TrainingResult, TrainingTask
from ps.simulate.traces import Drawn
from ps.xp import HostArray

_ALWAYS = Always()
LAYOUT = Layout.of({"w": np.zeros(4, np.float32)})
CHI_SQUARE = 27.88
"""What chi-square exceeds once in a thousand times with nine degrees of freedom."""


class Instant:
    """A trainer without arithmetic, which counts whose contributions were accepted."""

    def __init__(self, clients: int) -> None:
        self.accepted, self.refused = np.zeros(clients, int), np.zeros(clients, int)
        self.counters = Counters.of(clients)
        self._tasks: dict[int, TrainingTask] = {}

    def publish(self, version: int, weights: HostArray) -> None:
        pass

    def give(self, task: TrainingTask, due: float) -> None:
        self._tasks[task.ticket] = task

    def take(self, ticket: int) -> TrainingResult:
        return TrainingResult(ticket, 10, 1, {}, (np.ones(4, np.float32).view(np.uint8),))

    def settle(self, ticket: int, accepted: bool) -> None:
        counts = self.accepted if accepted else self.refused
        counts[self._tasks.pop(ticket).client] += 1


def federation(clients: int, speed: Speed, availability: Availability = _ALWAYS, **job: Any) -> Instant:
    """Return what became of every client's contributions."""
    explicit = {"mode": "federated", "workers": clients, "start_timeout": 1e9, **job}
    cluster = InProcessCluster(explicit, LAYOUT, np.zeros(LAYOUT.nbytes, np.uint8))
    trainer = Instant(clients)
    engine = Engine(
        cluster, trainer, Drawn(0, speed, availability=availability), LocalWork(10), [10] * clients, heartbeat=1.0
    )
    engine.run()
    trainer.counters = engine.counters
    return trainer


@pytest.mark.parametrize("over_select", [1.0, 1.3])
def test_who_counts_does_not_depend_on_the_rank_where_all_are_equally_fast(over_select: float) -> None:
    found = federation(50, parse_speed("constant"), clients_per_round=10, over_select=over_select, rounds=200)
    counts = found.accepted.reshape(10, 5).sum(axis=1)
    assert counts.sum() == 2000
    assert ((counts - 200) ** 2 / 200).sum() < CHI_SQUARE, counts.tolist()
    assert found.accepted.min() > 0


@pytest.mark.parametrize(
    "given", [{}, {"max_staleness": 10}, {"clients_per_round": 60}], ids=["both", "at once", "stale"]
)
def test_with_either_of_fedbuffs_defaults_clients_that_are_ten_times_slower_count_too(given: dict[str, int]) -> None:
    """Each default is enough by itself: how many train at once, and how stale a delta may be."""
    found = federation(60, parse_speed("classes:slow=0.5,factor=10"), algorithm="fedbuff:3", rounds=400, **given)
    assert found.refused.sum() == 0
    slow = [client for client in range(60) if parse_speed("classes:slow=0.5,factor=10").seconds(0, client) > 0.05]
    assert found.accepted[slow].sum() > 0.1 * found.accepted.sum()


def test_with_very_many_clients_who_counts_is_as_fair_and_each_asks_once_for_each_of_its_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assignments, "MANY", 99)
    found = federation(100, parse_speed("constant"), clients_per_round=10, over_select=1.0, rounds=200)
    counts = found.accepted.reshape(10, 10).sum(axis=1)
    assert counts.sum() == 2000 and found.accepted.min() > 0
    assert ((counts - 200) ** 2 / 200).sum() < CHI_SQUARE, counts.tolist()
    assert found.counters.polls <= 100 + 2000


def test_with_very_many_clients_those_that_are_off_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task in ten is cut short as its client goes off; if clients waited on while they are off, half would be."""
    monkeypatch.setattr(assignments, "MANY", 99)
    onoff = parse_availability("onoff:on=10,off=10")
    found = federation(
        100, parse_speed("constant:step=1"), onoff, clients_per_round=10, over_select=1.0, min_clients=1, rounds=60
    )
    assert found.accepted.sum() > 400 and found.accepted.min() > 0
    assert 10 < found.counters.dropped < 0.2 * found.accepted.sum()
