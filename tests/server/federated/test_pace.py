"""Promises of the pace: deadlines follow the clients, with a floor and a bound, unless they were set."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

import pytest

from ps.server.federated.pace import FIRST_DEADLINE, HABIT, LATEST, LEAST_DEADLINE, SOONEST, Pace, needed
from ps.server.federated.task import ACCEPTED, OPEN, Task


def pace_of(times: Iterable[float] = (), fixed: float | None = None, most: float = 10.0) -> Pace:
    pace = Pace(fixed, most)
    for client, seconds in enumerate(times):
        pace.took(client, seconds)
    return pace


def test_a_deadline_that_was_set_is_the_deadline() -> None:
    assert pace_of([100.0] * 50, fixed=7.0).deadline() == 7.0


def test_before_enough_is_known_there_is_time() -> None:
    assert pace_of([1.0] * 4).deadline() == FIRST_DEADLINE


def test_the_deadline_is_twice_what_nine_of_ten_clients_need_and_never_too_short() -> None:
    pace = pace_of([30.0] * 9 + [9000.0])
    assert pace.deadline() == 60.0
    for client in range(10):
        pace.took(client, 0.01)
    assert pace.deadline() == LEAST_DEADLINE


@pytest.mark.parametrize("share", [0.95, 1.0])
def test_clients_that_walk_slowly_on_purpose_move_the_deadline_up_to_a_bound_and_are_named(share: float) -> None:
    pace = pace_of([1.0] * 8)
    for _ in range(100):
        for client in (8, 9):
            pace.took(client, share * pace.deadline())
    assert pace.deadline() == 20.0, "twice ten times what the typical client needs"
    assert pace.slow == [8, 9]


def test_a_client_that_is_often_here_counts_once() -> None:
    pace = pace_of([1.0] * 10)
    for _ in range(1000):
        pace.took(0, 9.0)
    assert pace.deadline() == LEAST_DEADLINE


def test_honest_clients_of_another_class_are_waited_for() -> None:
    pace = pace_of([1.0] * 6 + [9.5] * 4)
    assert pace.deadline() == 19.0 and pace.slow == []


def test_who_is_late_by_habit_is_named_once_and_until_it_is_in_time_again(caplog: pytest.LogCaptureFixture) -> None:
    pace = pace_of([1.0] * 10)
    with caplog.at_level(logging.WARNING):
        for count in range(HABIT + 2):
            assert pace.slow == ([4] if count >= HABIT else [])
            pace.late([4])
    assert [record.args for record in caplog.records] == [(4, HABIT)]
    pace.took(4, 1.0)
    assert pace.slow == []


def test_clients_come_back_about_when_the_round_ends_and_a_crowd_stays_away_longer() -> None:
    pace = pace_of()
    pace.rounds.extend([10.0, 10.0, 10.0])
    assert pace.wait(4.0, clients=10, wanted=10, chance=1.0) == 6.0
    assert pace.wait(50.0, clients=10, wanted=10, chance=1.0) == pytest.approx(1.0)
    assert pace.wait(4.0, clients=8000, wanted=10, chance=0.0) == 6.0
    assert pace.wait(4.0, clients=8000, wanted=10, chance=0.5) == pytest.approx(6.0 + 10.0 * 199)
    pace.rounds.extend([0.001] * 20)
    assert pace.wait(0.0, 1, 1, 0.5) == SOONEST
    pace.rounds.extend([1e6] * 20)
    assert pace.wait(0.0, 1, 1, 0.5) == LATEST


def test_each_attempt_that_fails_doubles_the_deadline_unless_it_was_set() -> None:
    assert [pace_of().deadline(failed) for failed in (0, 1, 2)] == [600.0, 1200.0, 2400.0]
    assert pace_of().deadline(99) == pace_of().deadline(10)
    assert pace_of(fixed=7.0).deadline(3) == 7.0


def test_it_outlives_a_restart_and_remembers_only_the_last() -> None:
    pace, again = pace_of(float(number) for number in range(1000)), pace_of()
    pace.rounds.extend(float(number) for number in range(1000))
    pace.late(range(1000))
    pace.late(range(900, 1000))
    pace.late(range(950, 1000))
    again.load(json.loads(json.dumps(pace.dump())))
    assert again.deadline() == pace.deadline() and again.slow == pace.slow == list(range(950, 1000))
    assert again.dump() == pace.dump()
    assert len(again.dump()["tasks"]) == len(again.dump()["missed"]) == 200 and len(again.rounds) == 5


def test_a_round_is_nearly_over_when_half_of_the_usual_time_has_passed() -> None:
    pace = pace_of()
    assert not pace.nearly_over(1e9), "nothing is usual before the first round"
    pace.rounds.extend([10.0, 10.0, 10.0])
    assert not pace.nearly_over(4.9) and pace.nearly_over(5.0)


def test_what_a_round_needed_is_the_work_and_the_end_and_not_the_wait_for_clients() -> None:
    def task(began: float, submitted: float, state: str) -> Task:
        return Task(1, 1, 1, 0, began, state=state, submitted=submitted)

    tasks = [task(100.0, 101.0, ACCEPTED), task(104.0, 106.0, ACCEPTED), task(100.0, 0.0, OPEN)]
    assert needed(tasks, since=100.0, closing=106.0, now=106.5) == 2.5
    assert needed([task(90.0, 101.0, ACCEPTED)], since=100.0, closing=101.0, now=101.0) == 1.0, "begun in another round"
