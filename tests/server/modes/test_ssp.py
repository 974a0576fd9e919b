"""Promises of SSP: the bound holds always, for whoever is there."""

from __future__ import annotations

from ps.protocol.messages import Weights
from support.lone import Lone, told


def test_a_worker_gets_leave_to_go_on_only_within_the_bound() -> None:
    lone = Lone(2, mode="ssp", staleness=2)
    assert told(lone.push(1, 0, 1.0)) == ["1 Weights"]
    assert told(lone.push(1, 1, 1.0)) == ["1 Weights"]
    assert told(lone.push(1, 2, 1.0)) == []
    assert told(lone.push(2, 0, 1.0)) == ["1 Weights", "2 Weights"]
    assert lone.value == -4.0


def test_a_push_that_comes_without_leave_is_not_applied_before_its_time() -> None:
    lone = Lone(2, mode="ssp", staleness=1)
    lone.push(1, 0, 1.0)
    lone.push(1, 1, 1.0)
    lone.push(1, 2, 1.0)  # answered to clock 1 only: a worker that does not wait
    assert lone.value == -2.0
    lone.push(2, 0, 1.0)
    assert lone.value == -4.0


def test_staleness_zero_is_lockstep() -> None:
    lone = Lone(2, mode="ssp", staleness=0)
    assert told(lone.push(1, 0, 1.0)) == []
    assert told(lone.push(2, 0, 1.0)) == ["1 Weights", "2 Weights"]


def test_the_staleness_of_a_push_is_its_lead_over_the_slowest() -> None:
    lone = Lone(2, mode="ssp", staleness=3)
    for clock in range(3):
        [reply] = lone.push(1, clock, 1.0)
        assert isinstance(reply.message, Weights) and reply.message.staleness == clock


def test_death_and_leave_of_the_slowest_release_those_who_wait() -> None:
    for go in ("lose", "retire"):
        lone = Lone(2, mode="ssp", staleness=0)
        lone.push(1, 0, 1.0)
        assert "1 Weights" in told(getattr(lone, go)(2))


def test_a_newcomer_binds_the_others_from_the_moment_it_is_told_its_clock() -> None:
    lone = Lone(2, mode="ssp", staleness=1)
    lone.push(1, 0, 1.0)
    lone.push(2, 0, 1.0)
    lone.join(3)
    assert lone.attach(3) == 1
    lone.push(1, 1, 1.0)
    lone.push(2, 1, 1.0)
    assert told(lone.push(1, 2, 1.0)) == []  # two ahead of worker 3, which has not started yet
    lone.start(3, 1)
    assert told(lone.push(3, 1, 1.0)) == ["1 Weights", "3 Weights"]


def test_a_newcomer_that_dies_before_it_starts_binds_nobody() -> None:
    lone = Lone(1, mode="ssp", staleness=0)
    lone.join(2)
    lone.attach(2)
    assert lone.push(1, 0, 1.0) == []
    assert told(lone.lose(2)) == ["1 Weights"]
