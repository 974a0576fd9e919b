"""Promises of the report: plain values, what was found out and nothing better, also of what failed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ps.compare.comparison import survived
from ps.compare.report import build
from ps.compare.show import show
from support.made import report, results


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    return report(tmp_path)


def run_of(found: dict[str, Any], name: str, where: str = "runs") -> dict[str, Any]:
    (run,) = [run for run in found[where] if run["name"] == name]
    return dict(run)


def test_it_is_json_and_comes_back_the_same(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_totals_are_the_sums_over_participants(found: dict[str, Any]) -> None:
    for run in found["runs"]:
        for key in ("examples", "bytes_up", "bytes_down"):
            assert run[key] == sum(one[key] for one in run["per_participant"])
    assert run_of(found, "sync")["bytes_up"] == 4 * 113 * 38_000


def test_an_update_is_made_of_what_its_paradigm_makes_it_of(found: dict[str, Any]) -> None:
    shapes = {run["name"]: (run["update"]["count"], run["update"]["contributions"]) for run in found["runs"]}
    assert shapes == {
        "centralized": (450, 1.0),
        "sync": (113, 4.0),
        "async": (452, 1.0),
        "ssp": (0, None),
        "pipeline": (450, 1.0),
        "federated-iid": (20, 5.0),
        "federated-non-iid": (20, 5.0),
    }


def test_of_model_parallel_it_is_told_where_the_model_was_and_what_went_from_stage_to_stage(
    found: dict[str, Any],
) -> None:
    run = run_of(found, "pipeline")
    assert run["parts"][1] == {"rank": 1, "layers": [2, 3], "bytes": 1000}
    assert run["model"].startswith("No worker has all of it")
    assert (run["bytes_activations"], run["bytes_gradients"]) == (3 * 450 * 4000, 3 * 450 * 3000)
    assert run["examples"] == run_of(found, "centralized")["examples"]
    told = "5.4 MB are activations on the way to the next stage, 4.0 MB their gradients on the way back, and 26.6 MB"
    assert told in " ".join(found["notes"])


def test_a_run_that_cannot_be_is_left_out_and_told_why(tmp_path: Path) -> None:
    plan, done, dropouts = results(tmp_path)
    at = next(i for i, result in enumerate(done) if result.case.name == "pipeline")
    for listed in (done, dropouts):
        case = dataclasses.replace(listed[at].case, impossible="no ps.Pipeline")
        listed[at] = dataclasses.replace(listed[at], case=case)
    built = build(plan, {}, done, dropouts)
    assert not [run for run in (*built["runs"], *built["dropouts"]) if run["paradigm"] == "model parallel"]
    assert built["notes"][-1] == "pipeline was not run: no ps.Pipeline."


def test_a_run_that_failed_is_there_with_its_last_lines(found: dict[str, Any]) -> None:
    run = run_of(found, "ssp")
    assert (run["ended"], run["status"], run["final"], run["curve"]) == ("failed", 1, None, [])
    assert run["tail"][-1] == "ValueError: <what> & why"
    dropout = run_of(found, "ssp-dropout", "dropouts")
    assert (dropout["ended"], dropout["finished"], dropout["wall_s"]) == ("not run", False, None)


def test_a_centralized_training_is_lost_with_its_process(found: dict[str, Any]) -> None:
    run = run_of(found, "centralized-dropout", "dropouts")
    assert (run["killed"], run["finished"], run["final"], run["pause_s"]) == ([0], False, None, None)
    assert run["without"] == run_of(found, "centralized")["final"]


def test_others_go_on_without_those_who_were_killed(found: dict[str, Any]) -> None:
    run = run_of(found, "federated-iid-dropout", "dropouts")
    assert len(run["killed"]) == 3
    assert run["finished"]
    assert 0 < run["pause_s"] < 1


def test_a_run_is_lost_when_a_survivor_failed(tmp_path: Path) -> None:
    _, _, dropouts = results(tmp_path)
    sync = dropouts[1]
    assert survived(sync)
    exits = dict(sync.record.exits)
    exits[0] = 4
    assert not survived(dataclasses.replace(sync, record=dataclasses.replace(sync.record, exits=exits)))
    timed_out = dataclasses.replace(sync.outcome, ended="timed out")
    assert not survived(dataclasses.replace(sync, outcome=timed_out))


def test_what_differs_is_said(found: dict[str, Any]) -> None:
    notes = " ".join(found["notes"])
    assert "All runs have seen about as many examples." in notes
    assert "centralized 32, sync 131, async 32.8, pipeline 32, federated-iid 719.5" in notes
    assert "SIGKILL" in notes


def test_unequal_numbers_of_examples_are_said_with_the_numbers(tmp_path: Path) -> None:
    from ps.compare.notes import notes

    runs = [
        {
            "name": name,
            "paradigm": "distributed",
            "examples": n,
            "update": {"examples": 32},
            "ended": "finished",
            "curve": [],
        }
        for name, n in (("sync", 1000), ("async", 1100))
    ]
    said = " ".join(notes(runs, "accuracy", False))
    assert "sync 1,000, async 1,100" in said
    assert "Nothing was evaluated in sync, async: a script says what to evaluate with kv.evaluate" in said
    assert "SIGKILL" not in said


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("final", 0.98765, "98.77 %"),
        ("final", None, "–"),
        ("bytes_up", 4_200_000, "4.2 MB"),
        ("wall_s", 3.14159, "3.14 s"),
        ("wall_s", 31.4159, "31.4 s"),
        ("examples", 14380, "14,380"),
        ("contributions", 4.0, "4"),
        ("finished", True, "yes"),
    ],
)
def test_numbers_are_shown_by_what_they_count(key: str, value: Any, words: str) -> None:
    assert show(key, value) == words


def test_a_metric_that_is_no_accuracy_is_no_percentage() -> None:
    assert show("final", 0.98765, "loss") == "0.9877"
