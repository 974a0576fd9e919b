"""Promises of the history: one row says what a round was, in plain numbers, however odd the clients' reports."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from ps.server.scheduler.rounds.history import MOST_METRICS, distribution, entry, numbers
from support.delta_parts import task_of


def test_a_row_counts_those_accepted_and_shows_the_spread_of_what_they_reported() -> None:
    tasks = [task_of(number, state="accepted", report={"loss": float(number)}, steps=2) for number in (3, 1, 2)]
    tasks += [task_of(4, state="norm", report={"loss": 1e9}), task_of(5, state="open")]
    row = entry(6, 2, 12.34567, 1.5, tasks, Counter(norm=1))
    assert row == {
        "round": 6,
        "attempt": 2,
        "at": 12.346,
        "seconds": 1.5,
        "selected": 5,
        "accepted": 3,
        "refused": {"norm": 1},
        "spare": 0,
        "examples": 30.0,
        "steps": 6,
        "clients": [1, 2, 3],
        "metrics": {"loss": {"mean": 2.0, "min": 1.0, "p10": 1.2, "p50": 2.0, "p90": 2.8, "max": 3.0, "n": 3}},
    }
    assert json.loads(json.dumps(row)) == row


def test_a_metric_that_only_some_report_is_that_of_those() -> None:
    tasks = [task_of(1, state="accepted", report={"a": 1.0}), task_of(2, state="accepted", report={"b": 3.0})]
    metrics = entry(0, 1, 0.0, 0.0, tasks, Counter())["metrics"]
    assert {key: (row["n"], row["mean"]) for key, row in metrics.items()} == {"a": (1, 1.0), "b": (1, 3.0)}


def test_a_round_of_nobody_is_a_row_too() -> None:
    row = entry(0, 1, 0.0, 0.0, [], Counter())
    assert (row["accepted"], row["clients"], row["metrics"]) == (0, [], {})


def test_only_finite_numbers_are_taken_of_a_report_and_not_too_many() -> None:
    odd = {"nan": math.nan, "inf": math.inf, "text": "1", "none": None, "yes": True, "deep": {"a": 1}, "n" * 500: 1}
    assert numbers({**odd, "steps": 3, "loss": 0.5}) == {"steps": 3.0, "loss": 0.5}
    assert len(numbers({str(number): number for number in range(10_000)})) == MOST_METRICS


def test_a_distribution_of_one_is_that_one() -> None:
    assert set(distribution([2.0]).values()) == {2.0, 1}


def test_numbers_whose_sum_overflows_have_a_distribution() -> None:
    found = distribution([1e308, 1.5e308, 1e308, -1.7e308])
    assert all(math.isfinite(value) for value in found.values())
    assert (found["min"], found["max"]) == (-1.7e308, 1.5e308)
    assert found["mean"] == pytest.approx(0.45e308)


def test_a_metric_is_called_by_what_can_be_printed() -> None:
    assert list(numbers({"\x1b[31mloss\n": 1.0})) == ["\N{REPLACEMENT CHARACTER}[31mloss\N{REPLACEMENT CHARACTER}"]
