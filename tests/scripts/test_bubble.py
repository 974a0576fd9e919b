"""Promises of the benchmark of pipelines: idle time is counted as schedules count it, in real runs."""

from __future__ import annotations

import bubble
import pytest


def test_idle_is_what_is_left_of_the_longest_workers_time_in_the_middle_step() -> None:
    lines = [
        {
            "clock": clock,
            "pipeline_s": 1.0 if rank == 0 else 0.7,
            "busy_s": busy,
            "bubble_s": 0.25 * (1 if rank == 0 else 0.7),
        }
        for clock, busy in enumerate((0.1, 0.1, 0.6, 0.5, 0.7))
        for rank in range(4)
    ]
    assert bubble.idle(lines) == (pytest.approx(0.4), pytest.approx(0.25))


@pytest.mark.e2e
def test_workers_are_idle_for_as_long_as_the_schedule_has_it_and_no_less() -> None:
    row = bubble.measure("zero-bubble", 4, 0.01, 1)
    assert row["schedule"] == pytest.approx(3 / 15, abs=1e-3)
    assert row["formula"] == pytest.approx(3 / 7)
    assert 0.15 < row["measured"] < 1
