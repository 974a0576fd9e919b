"""Points: what a tracker shows of a record: one point a clock, whatever workers and clients say."""

from __future__ import annotations

import math
from typing import Any

from ps.track.points import LATE, MOST_NAMES, Points, clean


def line(rank: int, clock: int, **metrics: Any) -> dict[str, Any]:
    return {"t": 1.0, "rank": rank, "clock": clock, "samples": 8, "samples_per_s": 100.0, **metrics}


def test_a_clock_is_one_point_with_means_once_all_have_told_it() -> None:
    points = Points(lambda clock, lr: {"scheduled_lr": 0.1})
    points.step(line(0, 0, loss=1.0, staleness=0), 0.0)
    points.step(line(1, 0, loss=3.0, staleness=2), 0.0)
    points.step(line(0, 1, loss=0.5), 0.0)
    assert points.due(0.1) == [
        (1, {"train/loss": 2.0, "train/staleness": 2.0, "train/samples_per_s": 200.0, "train/scheduled_lr": 0.1})
    ]
    assert points.due(0.2) == []
    [(step, values)] = points.due(LATE)
    assert (step, values["train/loss"]) == (2, 0.5)


def test_the_rate_that_workers_have_set_is_what_the_schedule_multiplies() -> None:
    points = Points(lambda clock, lr: {"scheduled_lr": (1.0 if lr is None else lr) / 2})
    points.step(line(0, 0), 0.0)
    points.step(line(0, 1, base_lr=0.5), 0.0)
    points.step(line(0, 2, base_lr=0.25), 0.0)
    found = points.due(0.0)
    assert [values["train/scheduled_lr"] for _, values in found] == [0.5, 0.25, 0.125]
    assert not any("train/base_lr" in values for _, values in found)


def test_steps_only_grow_and_who_is_far_behind_adds_nothing() -> None:
    points = Points()
    points.step(line(0, 10, loss=1.0), 0.0)
    points.step(line(1, 3, loss=1.0), 0.0)
    assert [step for step, _ in points.due(0.0)] == [4]
    assert [step for step, _ in points.due(LATE)] == [11]
    points.step(line(1, 4, loss=1.0), 5.0)
    assert points.due(100.0) == []


def test_nan_and_inf_are_told_and_text_is_not() -> None:
    points = Points()
    points.step(line(0, 0, loss="nan", grad="inf", note="hello", flag=True, none=None, huge=10**400), 0.0)
    [(_, values)] = points.due(0.0)
    assert math.isnan(values["train/loss"]) and values["train/grad"] == math.inf
    assert set(values) == {"train/loss", "train/grad", "train/samples_per_s"}


def test_names_from_clients_are_plain_bounded_and_not_too_many() -> None:
    assert clean("<img src=x onerror=alert(1)>\x1b]0;x\n" + "a" * 999)[:20] == "_img src_x onerror_a"
    assert len(clean("a" * 999)) == 100
    points = Points()
    for number in range(3):
        points.step(line(0, number, **{f"m{number}_{i}": 1.0 for i in range(400)}), 0.0)
    assert len({name for _, values in points.due(100.0) for name in values}) == MOST_NAMES


def test_a_round_has_its_counts_and_the_means_of_what_clients_measured() -> None:
    entry = {"round": 4, "accepted": 5, "seconds": 1.5, "refused": {"late": 2, "nan": 1}}
    entry["metrics"] = {"loss": {"mean": 0.5, "min": 0.1}, "odd": {"mean": None}, "torn": 3}
    expected = {"round/accepted": 5.0, "round/seconds": 1.5, "round/refused": 3.0, "round/clients/loss": 0.5}
    assert Points().round(entry) == [(5, expected)]
    assert Points().evaluation({"t": 1.0, "rank": 0, "clock": 40, "accuracy": 0.9}) == [(40, {"eval/accuracy": 0.9})]
    assert Points().round({}) == Points().evaluation({"clock": "x", "accuracy": 0.9}) == []
