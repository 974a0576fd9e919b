"""Promises of the benchmark of pipelines: idle time is counted as schedules count it, and its script is one."""

from __future__ import annotations

import sys
from typing import Any

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
    assert bubble.idle(lines) == (pytest.approx(0.4), pytest.approx(0.3), pytest.approx(0.25))


def test_what_its_workers_run_trains_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["passes.py", "zero-bubble", "0", "4", "3", "2"])
    found: dict[str, Any] = {}
    exec(bubble.SCRIPT, found)
    assert found["pipe"].schedule.workers(4) == 4
    assert found["kv"].clock == 2
