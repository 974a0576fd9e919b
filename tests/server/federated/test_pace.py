"""Promises of the pace: deadlines follow the clients, with a floor, unless they were set."""

from __future__ import annotations

import json

import pytest

from ps.server.federated.pace import FIRST_DEADLINE, LATEST, LEAST_DEADLINE, SOONEST, Pace


def test_a_deadline_that_was_set_is_the_deadline() -> None:
    pace = Pace(7.0)
    pace.tasks.extend([100.0] * 50)
    assert pace.deadline() == 7.0


def test_before_enough_is_known_there_is_time() -> None:
    pace = Pace(None)
    pace.tasks.extend([1.0] * 4)
    assert pace.deadline() == FIRST_DEADLINE


def test_the_deadline_is_twice_what_nine_of_ten_clients_need_and_never_too_short() -> None:
    pace = Pace(None)
    pace.tasks.extend([30.0] * 9 + [9000.0])
    assert pace.deadline() == 60.0
    pace.tasks.extend([0.01] * 200)
    assert pace.deadline() == LEAST_DEADLINE


def test_clients_come_back_about_when_the_round_ends_and_a_crowd_stays_away_longer() -> None:
    pace = Pace(None)
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
    assert [Pace(None).deadline(failed) for failed in (0, 1, 2)] == [600.0, 1200.0, 2400.0]
    assert Pace(None).deadline(99) == Pace(None).deadline(10)
    assert Pace(7.0).deadline(3) == 7.0


def test_it_outlives_a_restart_and_remembers_only_the_last() -> None:
    pace, again = Pace(None), Pace(None)
    pace.tasks.extend(float(number) for number in range(1000))
    pace.rounds.extend(float(number) for number in range(1000))
    again.load(json.loads(json.dumps(pace.dump())))
    assert again.deadline() == pace.deadline() and again.dump() == pace.dump()
    assert len(again.tasks) == 200 and len(again.rounds) == 20


def test_a_round_is_nearly_over_when_half_of_the_usual_time_has_passed() -> None:
    pace = Pace(None)
    assert not pace.nearly_over(1e9), "nothing is usual before the first round"
    pace.rounds.extend([10.0, 10.0, 10.0])
    assert not pace.nearly_over(4.9) and pace.nearly_over(5.0)
