"""Promises of the time that is left: it follows from the pace of late, and nothing is said that is not known."""

from __future__ import annotations

import pytest

from ps.launch.pace import WINDOW, Pace, format_left, with_left, with_speed


def test_the_time_left_follows_from_the_pace_so_far() -> None:
    pace = Pace()
    for second in range(11):
        pace.note(100.0 + second, 5 * second)
    assert pace.left(200) == 30.0


def test_only_what_is_not_long_ago_counts() -> None:
    pace = Pace()
    pace.note(0.0, 0)
    for second in range(200):
        pace.note(1000.0 + second, 2 * second)
    assert pace.left(400) == pytest.approx(1.0)
    assert len(pace._seen) <= WINDOW + 2


def test_nothing_is_said_before_anything_is_done_and_after_a_new_beginning() -> None:
    pace = Pace()
    assert pace.left(10) is None
    pace.note(0.0, 3)
    pace.note(9.0, 3)
    assert pace.left(10) is None
    pace.note(10.0, 4)
    assert pace.left(10) is not None
    pace.note(11.0, 0)
    assert pace.left(10) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s left"),
        (42.4, "42 s left"),
        (180, "3 min left"),
        (7500, "2 h 05 min left"),
        (90 * 3600, "90 h 00 min left"),
    ],
)
def test_times_are_said_in_the_unit_that_people_would_choose(seconds: float, text: str) -> None:
    assert format_left(seconds) == text


def test_the_time_left_stands_behind_the_place_where_it_is_known() -> None:
    assert with_left("step 5 of 10", 42.0) == "step 5 of 10 · 42 s left"
    assert with_left("step 5", None) == "step 5"


def test_the_speed_is_that_of_late_and_is_told_in_steps_a_second_or_a_minute() -> None:
    pace = Pace()
    assert pace.speed() is None
    for second in range(10):
        pace.note(float(second), 3.0 * second)
    assert pace.speed() == 3.0
    assert with_speed("step 5", 3.0) == "step 5 · 3 steps/s"
    assert with_speed("step 5", 0.05) == "step 5 · 3 steps/min"
    assert with_speed("step 5", None) == "step 5"
