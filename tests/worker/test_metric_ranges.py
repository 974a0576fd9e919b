"""Promises of the ranges of a worker's metrics: who sees every other report has seen every step."""

from __future__ import annotations

import random

from ps.server.scheduler.report import kept
from ps.worker.metric_ranges import MOST, MetricRanges


def test_every_other_report_covers_every_step() -> None:
    chance = random.Random(1)
    ranges = MetricRanges()
    seen, noted, low, high, odd = 0, 0, float("inf"), float("-inf"), 0
    for turn in range(200):
        for _ in range(chance.randrange(3)):
            noted += 1
            ranges.note({"loss": chance.choice((float(noted), -float(noted), "nan", "inf"))})
        found = ranges.take().get("loss")
        if turn % 2 and found:
            seen += 1
            odd += int(found[2] or 0)
            if found[0] is not None and found[1] is not None:
                low, high = min(low, found[0]), max(high, found[1])
    assert seen > 50 and odd > 20 and low < -100 and high > 100


def test_a_spike_and_a_nan_between_two_reports_are_told_twice_and_then_no_more() -> None:
    ranges = MetricRanges()
    for value in (1.0, 900.0, "nan", 2.0):
        ranges.note({"loss": value, "name": "text", "flag": True})
    assert ranges.take() == {"loss": [1.0, 900.0, 1]}
    ranges.note({"loss": 3.0})
    assert ranges.take() == {"loss": [1.0, 900.0, 1]}
    assert ranges.take() == {"loss": [3.0, 3.0, 0]}
    assert ranges.take() == {}


def test_what_was_never_finite_has_no_least_and_names_are_few() -> None:
    ranges = MetricRanges()
    ranges.note({"loss": "nan"})
    ranges.note({f"m{number}": number for number in range(100)})
    found = ranges.take()
    assert found["loss"] == [None, None, 1] and len(found) == MOST


def test_the_scheduler_keeps_them_where_they_are_of_their_kind() -> None:
    assert kept({"ranges": {"loss": [1, 2.0, 0], "x": [None, None, 3]}}) == {
        "ranges": {"loss": [1, 2.0, 0], "x": [None, None, 3]}
    }
    for wrong in ([1], {"loss": [1, 2]}, {"loss": [1, 2, "3"]}, {1: [1, 2, 3]}, {"loss": [True, 1, 1]}):
        assert kept({"ranges": wrong}) == {}
