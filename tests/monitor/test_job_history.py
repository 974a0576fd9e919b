"""Promises of the curves: bounded, spikes and NaN stay however long a job is, and what was drawn does not move."""

from __future__ import annotations

import json
import random

from ps.monitor.job_history import MOST_CURVES, JobHistory
from ps.monitor.snapshot import snapshot_of
from ps.monitor.time_series import MOST, TimeSeries
from support.watched import FEDERATED, HOSTILE, job, worker


def test_of_a_million_points_a_spike_and_a_nan_stay_where_they_were() -> None:
    series, chance = TimeSeries(), random.Random(1)
    for second in range(100_000):
        value = chance.random()
        odd = int(second == 70_000)
        series.add(float(second), None if odd else value, high=1e6 if second == 31_234 else None, odd=odd)
    found = series.columns()
    assert MOST / 2 <= len(found["at"]) <= MOST
    assert max(found["high"]) == 1e6 and sum(found["odd"]) == 1
    place = found["high"].index(1e6)
    assert found["at"][place] <= 31_234 < found["at"][place + 1]
    odd = found["odd"].index(1)
    assert found["at"][odd] <= 70_000 < found["at"][odd + 1]
    assert all(low <= last <= high for low, last, high in zip(found["low"], found["last"], found["high"], strict=True))


def test_what_was_drawn_does_not_move() -> None:
    series, before = TimeSeries(), {0.0}
    for second in range(5000):
        series.add(float(second), 1.0)
        if second % 97 == 0:
            at = series.columns()["at"]
            assert {place for place in at if place <= max(before)} <= before
            before = set(at)


def test_a_point_earlier_than_the_last_counts_as_of_its_time() -> None:
    series = TimeSeries()
    for at, value in ((5.0, 1.0), (9.0, 2.0), (3.0, 7.0), (9.5, None)):
        series.add(at, value, odd=int(value is None))
    assert series.columns() == {
        "at": [5.0, 9.0],
        "low": [1.0, 2.0],
        "high": [1.0, 7.0],
        "last": [1.0, 7.0],
        "odd": [0, 1],
    }
    assert series.columns(1)["at"] == [9.0]


def test_curves_are_of_what_was_measured_and_each_round_once() -> None:
    history = JobHistory()
    for second in range(5):
        row = worker(0, clock=10 + second, measured={"accuracy": 0.5 + 0.1 * (second // 2)}, measured_clock=second // 2)
        row["ranges"] = {"loss": [0.1, 40.0 if second == 2 else 0.6, int(second == 3)]}
        history.add(snapshot_of(job([row], federated=FEDERATED), {"steps_per_s": 3.0}, 100.0 + second))
    found = history.curves()
    assert found["eval/accuracy"]["at"] == [0, 1, 2] and found["eval/accuracy"]["last"] == [0.5, 0.6, 0.7]
    assert found["metric/loss"]["high"] == [0.6, 0.6, 40.0, 0.6, 0.6] and found["metric/loss"]["odd"] == [0, 0, 0, 1, 0]
    assert found["round/accepted"]["at"] == [1, 2, 3] and found["round/refused"]["last"] == [0, 1, 2]
    assert found["client/loss"]["low"] == [0.2] * 3 and found["client/loss"]["high"] == [0.9] * 3
    assert found["now/steps_per_s"]["last"] == [3.0] * 5 and found["now/workers"]["last"] == [1] * 5
    assert history.curves(2)["now/steps_per_s"]["at"] == [103.0, 104.0]
    json.dumps(found, allow_nan=False)


def test_there_are_only_so_many_curves_whatever_names_come() -> None:
    history = JobHistory()
    for second in range(100):
        metrics = {f"{second} {name}": float(second) for name in HOSTILE}
        history.add(snapshot_of(job([worker(0, metrics=metrics)]), {"steps_per_s": 1.0}, float(second)))
    assert len(history.curves()) == MOST_CURVES
