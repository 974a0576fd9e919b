"""Resting: who gave a task back is not asked in a circle, and it is nobody's failure."""

from __future__ import annotations

import pytest

from ps.protocol.messages import Wait
from ps.server.scheduler.rounds.resting import LONGEST, Resting
from support.table import Table, kinds


def test_a_client_rests_longer_each_time_within_a_bound_until_the_round_is_over() -> None:
    resting, rests = Resting(), []
    for _ in range(10):
        resting.declined(3, 0.0)
        rests.append(resting.left(3, 0.0))
    assert rests[:3] == [0.5, 1.0, 2.0]
    assert rests[-1] == LONGEST
    assert (resting.left(3, LONGEST), resting.left(4, 0.0)) == (0, 0)
    resting.clear()
    assert resting.left(3, 0.0) == 0


@pytest.mark.parametrize("algorithm", ["fedavg", "fedbuff:buffer=2"])
def test_who_gave_a_task_back_is_told_when_to_come_again(algorithm: str) -> None:
    table = Table(workers=1, algorithm=algorithm, min_clients=1)
    for rest in (0.5, 1.0, 2.0):
        table.decline(0, table.task(0))
        [answer] = table.poll(0)
        assert isinstance(answer, Wait)
        assert answer.seconds == rest
        table.now += rest


def test_a_client_without_examples_for_long_does_not_end_the_job() -> None:
    table = Table(workers=1, min_clients=1)
    for _ in range(150):
        table.decline(0, table.task(0))
        table.now += LONGEST
    assert not table.rounds.failure
    assert table.rounds.status()["attempt"] == 1
    assert table.contribute(0, table.task(0)) == "accepted"


def test_the_next_round_asks_it_again() -> None:
    table = Table(workers=2, min_clients=1)
    here, away = table.tasks(0, 1)
    table.decline(1, away)
    assert kinds(table.poll(1)) == ["W"]
    assert table.contribute(0, here) == "accepted"
    assert table.rounds.version == 1
    assert len(table.tasks(0, 1)) == 2
