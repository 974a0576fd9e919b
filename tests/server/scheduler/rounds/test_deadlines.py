"""Promises of the deadlines: deadlines follow the clients, with a floor and a bound, unless they were set."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

import pytest

from ps.server.scheduler.rounds.deadlines import (
    FIRST_DEADLINE,
    HABIT,
    LATEST,
    LEAST_DEADLINE,
    SOONEST,
    Deadlines,
    needed,
)
from ps.server.scheduler.rounds.task import ACCEPTED, OPEN, Task


def deadlines_of(times: Iterable[float] = (), fixed: float | None = None, most: float = 10.0) -> Deadlines:
    deadlines = Deadlines(fixed, most)
    for client, seconds in enumerate(times):
        deadlines.took(client, seconds)
    return deadlines


def test_a_deadline_that_was_set_is_the_deadline() -> None:
    assert deadlines_of([100.0] * 50, fixed=7.0).deadline() == 7.0


def test_before_enough_is_known_there_is_time() -> None:
    assert deadlines_of([1.0] * 4).deadline() == FIRST_DEADLINE


def test_the_deadline_is_twice_what_nine_of_ten_clients_need_and_never_too_short() -> None:
    deadlines = deadlines_of([30.0] * 9 + [9000.0])
    assert deadlines.deadline() == 60.0
    for client in range(10):
        deadlines.took(client, 0.01)
    assert deadlines.deadline() == LEAST_DEADLINE


@pytest.mark.parametrize("share", [0.95, 1.0])
def test_clients_that_walk_slowly_on_purpose_move_the_deadline_up_to_a_bound_and_are_named(share: float) -> None:
    deadlines = deadlines_of([1.0] * 8)
    for _ in range(100):
        for client in (8, 9):
            deadlines.took(client, share * deadlines.deadline())
    assert deadlines.deadline() == 20.0, "twice ten times what the typical client needs"
    assert deadlines.slow == [8, 9]


def test_a_client_that_is_often_here_counts_once() -> None:
    deadlines = deadlines_of([1.0] * 10)
    for _ in range(1000):
        deadlines.took(0, 9.0)
    assert deadlines.deadline() == LEAST_DEADLINE


def test_honest_clients_of_another_class_are_waited_for() -> None:
    deadlines = deadlines_of([1.0] * 6 + [9.5] * 4)
    assert deadlines.deadline() == 19.0 and deadlines.slow == []


def test_who_is_late_by_habit_is_named_once_and_until_it_is_in_time_again(caplog: pytest.LogCaptureFixture) -> None:
    deadlines = deadlines_of([1.0] * 10)
    with caplog.at_level(logging.WARNING):
        for count in range(HABIT + 2):
            assert deadlines.slow == ([4] if count >= HABIT else [])
            deadlines.late([4])
    assert [record.args for record in caplog.records] == [(4, HABIT)]
    deadlines.took(4, 1.0)
    assert deadlines.slow == []


def test_clients_come_back_about_when_the_round_ends_and_a_crowd_stays_away_longer() -> None:
    deadlines = deadlines_of()
    deadlines.rounds.extend([10.0, 10.0, 10.0])
    assert deadlines.wait(4.0, clients=10, wanted=10, chance=1.0) == 6.0
    assert deadlines.wait(9.9, clients=10, wanted=10, chance=1.0) == pytest.approx(1.0)
    assert deadlines.wait(50.0, clients=10, wanted=10, chance=1.0) == pytest.approx(5.0)
    assert deadlines.wait(4.0, clients=8000, wanted=10, chance=0.0) == 6.0
    assert deadlines.wait(4.0, clients=8000, wanted=10, chance=0.5) == pytest.approx(6.0 + 10.0 * 199)
    deadlines.rounds.extend([0.001] * 20)
    assert deadlines.wait(0.0, 1, 1, 0.5) == SOONEST
    deadlines.rounds.extend([1e6] * 20)
    assert deadlines.wait(0.0, 1, 1, 0.5) == LATEST


@pytest.mark.parametrize("usual", [[], [0.5], [100.0]])
def test_a_client_that_waits_for_a_long_round_asks_a_few_times_a_minute_whether_or_not_rounds_were_seen(
    usual: list[float],
) -> None:
    deadlines = deadlines_of()
    deadlines.rounds.extend(usual)
    at, asked = 0.0, 0
    while at < 3600.0:
        at, asked = at + deadlines.wait(at, clients=10, wanted=10, chance=1.0), asked + 1
    assert asked < 200


def test_each_attempt_that_fails_doubles_the_deadline_unless_it_was_set() -> None:
    assert [deadlines_of().deadline(failed) for failed in (0, 1, 2)] == [600.0, 1200.0, 2400.0]
    assert deadlines_of().deadline(99) == deadlines_of().deadline(10)
    assert deadlines_of(fixed=7.0).deadline(3) == 7.0


def test_it_outlives_a_restart_and_remembers_only_the_last() -> None:
    deadlines, again = deadlines_of(float(number) for number in range(1000)), deadlines_of()
    deadlines.rounds.extend(float(number) for number in range(1000))
    deadlines.late(range(1000))
    deadlines.late(range(900, 1000))
    deadlines.late(range(950, 1000))
    again.load(json.loads(json.dumps(deadlines.dump())))
    assert again.deadline() == deadlines.deadline() and again.slow == deadlines.slow == list(range(950, 1000))
    assert again.dump() == deadlines.dump()
    assert len(again.dump()["tasks"]) == len(again.dump()["missed"]) == 200 and len(again.rounds) == 5


def test_a_round_is_nearly_over_when_half_of_the_usual_time_has_passed() -> None:
    deadlines = deadlines_of()
    assert not deadlines.nearly_over(1e9), "nothing is typical before the first round"
    deadlines.rounds.extend([10.0, 10.0, 10.0])
    assert not deadlines.nearly_over(4.9) and deadlines.nearly_over(5.0)


def test_what_a_round_needed_is_the_work_and_the_end_and_not_the_wait_for_clients() -> None:
    def task(began: float, submitted: float, state: str) -> Task:
        return Task(1, 1, 1, 0, began, state=state, submitted=submitted)

    tasks = [task(100.0, 101.0, ACCEPTED), task(104.0, 106.0, ACCEPTED), task(100.0, 0.0, OPEN)]
    assert needed(tasks, since=100.0, closed=106.0, now=106.5) == 2.5
    assert needed([task(90.0, 101.0, ACCEPTED)], since=100.0, closed=101.0, now=101.0) == 1.0, "begun in another round"
