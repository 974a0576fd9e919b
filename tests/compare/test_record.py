"""Promises of the record: an evaluation counts what was seen and sent up to it, by all; nothing is raised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ps.compare.record import MOST_POINTS, read
from ps.record_files import EVALUATIONS, METRICS, ROUNDS, SHARES
from support.made import write_lines, write_run, write_summary


def step(t: float, rank: int, clock: int, samples: int = 10, up: int = 5, down: int = 7) -> dict[str, object]:
    return {"t": t, "rank": rank, "clock": clock, "samples": samples, "bytes_up": up, "bytes_down": down}


def test_an_evaluation_has_the_examples_and_bytes_of_all_ranks_up_to_its_time(tmp_path: Path) -> None:
    write_lines(
        tmp_path / METRICS, [step(103.0, 1, 1), step(101.0, 0, 0), step(102.0, 1, 0, samples=20), step(104, 0, 1)]
    )
    write_lines(tmp_path / EVALUATIONS, [{"t": 103.0, "rank": 0, "clock": 1, "accuracy": 0.5}])
    (point,) = read(tmp_path).points
    assert (point.clock, point.seconds, point.value) == (1, 2.0, 0.5)
    assert (point.examples, point.bytes) == (40, 36)


def test_the_sums_of_a_rank_are_those_of_its_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / METRICS, [step(1, 0, 0), step(2, 3, 0, up=1), step(3, 0, 4, down=0)])
    record = read(tmp_path)
    first, second = record.participants
    assert (first.rank, first.records, first.clock, first.examples) == (0, 2, 4, 20)
    assert (first.bytes_up, first.bytes_down) == (10, 7)
    assert (second.rank, second.bytes_up) == (3, 1)
    assert (record.clock, record.train_s) == (5, 2.0)


def test_the_longest_gap_is_looked_for_after_a_moment_only(tmp_path: Path) -> None:
    write_lines(tmp_path / METRICS, [step(t, 0, 0) for t in (100.0, 150.0, 151.0, 161.0, 162.0)])
    record = read(tmp_path)
    assert record.longest_gap(150.5) == 10.0
    assert record.longest_gap(161.5) == 0.5
    assert record.longest_gap(999.0) == 0.0


def test_another_metric_is_taken_when_there_is_no_accuracy(tmp_path: Path) -> None:
    write_lines(tmp_path / EVALUATIONS, [{"t": 1.0, "rank": 0, "clock": 3, "perplexity": 20.5}])
    record = read(tmp_path)
    assert (record.metric, record.points[0].value) == ("perplexity", 20.5)


def test_many_evaluations_are_thinned_and_both_ends_stay(tmp_path: Path) -> None:
    write_run(tmp_path, lambda clock: [0], 1000, every=1, level=0.9, slope=1e-3)
    points = read(tmp_path).points
    assert len(points) == MOST_POINTS
    assert (points[0].clock, points[-1].clock) == (1, 1000)


@pytest.mark.parametrize("place", ["evaluation", "metrics", ""])
def test_a_federation_tells_what_was_refused_and_how_clients_fare(tmp_path: Path, place: str) -> None:
    spread = {"accuracy": {"mean": 0.9, "min": 0.5, "n": 10}}
    rounds = [
        {"round": 0, "refused": {"late": 2}, "accepted": 5},
        {"round": 1, "refused": {"late": 1, "norm": 1}} | ({place: spread} if place else spread),
        {"round": 2, "refused": {}},
    ]
    write_lines(tmp_path / ROUNDS, rounds)
    write_lines(tmp_path / EVALUATIONS, [{"t": 1.0, "rank": 0, "clock": 3, "accuracy": 0.8}])
    write_lines(tmp_path / SHARES, [{"rank": 1, "examples": 3, "labels": {"7": 3}}, {"rank": 0, "examples": 3}])
    record = read(tmp_path)
    assert record.refused == {"late": 3, "norm": 1}
    assert record.spread == {"mean": 0.9, "min": 0.5, "n": 10}
    assert record.shares == ((1, {"7": 3}),)
    assert record.rounds == 3


def test_how_workers_ended_is_in_the_summary(tmp_path: Path) -> None:
    write_summary(tmp_path, {0: 0, 1: 137})
    assert read(tmp_path).exits == {0: 0, 1: 137}


@pytest.mark.parametrize("text", ["", "torn {", '{"t": 1}\n[]\n{"t": "x", "rank": 0}\n{"rank": null, "t": 3}\n'])
def test_a_record_that_is_none_is_empty(tmp_path: Path, text: str) -> None:
    for name in (METRICS, EVALUATIONS, ROUNDS, SHARES, "summary.json"):
        (tmp_path / name).write_text(text)
    record = read(tmp_path)
    assert (record.points, record.participants, record.metric, record.clock, record.train_s) == ((), (), "", 0, 0.0)
    assert read(tmp_path / "gone").participants == ()
    json.dumps([record.refused, record.spread])
