"""A run that goes on from a checkpoint is one run at its tracker: lost steps are taken back, or left behind by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ps.launch.tracked import Delivery, Follower
from ps.record_files import EVALUATIONS, METRICS
from ps.record_lives import RecordLife, go_on
from ps.track import TRACKERS, TrackedRun

RUN = "20261127-120000-abcdef"


class Told:
    """A tracker that remembers what it was told of each run."""

    module = package = "json"

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.opened: list[TrackedRun] = []

    def open(self, run: TrackedRun) -> Any:
        self.opened.append(run)
        points = self.runs.setdefault(run.id, [])

        class Writer:
            def log(self, values: Any, step: int) -> None:
                points.append((step, dict(values)))

            def close(self) -> None: ...

        return Writer()

    def steps(self, run: str, name: str = "train/loss") -> list[tuple[int, float]]:
        return [(step, values[name]) for step, values in self.runs[run] if name in values]


def live(tracker: Any, folder: Path, life: RecordLife, begin: int, end: int) -> RecordLife:
    """Have a life write its record, and one process of it tell a tracker."""
    now, _ = go_on(folder, life)
    said: list[str] = []
    follower = Follower(Delivery(tracker, said.append), folder)
    about = {"project": "p", "name": "first", "directory": str(folder / "there"), "id": now.tracked}
    follower.hear({**about, "before": now.before, "step": now.step})
    follower.hear({"settings": {"mode": "sync"}})
    of = {} if now.number == 1 else {"life": now.number}
    with (folder / METRICS).open("a") as metrics, (folder / EVALUATIONS).open("a") as evaluations:
        for clock in range(begin, end):
            metrics.write(json.dumps({"rank": 0, "clock": clock, "loss": float(now.number), **of}) + "\n")
            if (clock + 1) % 4 == 0:
                evaluations.write(json.dumps({"rank": 0, "clock": clock + 1, "accuracy": 0.5, **of}) + "\n")
    follower.hear({"end": True})
    follower.look(last=True)
    follower._delivery.close()
    assert said == []
    return now


def lives(tracker: Any, folder: Path) -> list[RecordLife]:
    """A run that is killed after 12 steps, gone on from 8, and later after 16, where nothing was lost."""
    first = live(tracker, folder, RecordLife(1, 0, 0, RUN, RUN), 0, 12)
    second = live(tracker, folder, RecordLife(2, 1, 8, RUN, RUN), 8, 16)
    return [first, second, live(tracker, folder, RecordLife(3, 2, 16, RUN, RUN), 16, 18)]


WHOLE = [*((step, 1.0) for step in range(1, 9)), *((step, 2.0) for step in range(9, 17)), (17, 3.0), (18, 3.0)]


def test_steps_that_were_lost_are_in_the_run_that_was_left_behind_and_nowhere_else(tmp_path: Path) -> None:
    told = Told()
    lives(told, tmp_path)
    assert told.steps(f"{RUN}.2") == WHOLE
    assert told.steps(RUN) == [(step, 1.0) for step in range(1, 13)]
    assert told.steps(f"{RUN}.2", "eval/accuracy") == [(4, 0.5), (8, 0.5), (12, 0.5), (16, 0.5)]
    assert [(run.label, run.before, run.step) for run in told.opened] == [
        ("first", "", 0),
        ("first.2", RUN, 8),
        ("first.2", "", 16),
    ]


def test_more_than_is_read_at_once_is_told_from_the_first_step_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ps.launch.tracked._AT_ONCE", 100)
    told = Told()
    lives(told, tmp_path)
    assert told.steps(f"{RUN}.2") == WHOLE


def test_tensorboard_takes_back_what_was_lost(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lives(TRACKERS.parse("tensorboard").build(), tmp_path)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["first"]
    events = EventAccumulator(str(tmp_path / "there" / "first"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == WHOLE
    assert [event.step for event in events.Scalars("eval/accuracy")] == [4, 8, 12, 16]


def test_mlflow_goes_on_with_its_run_and_marks_the_one_that_is_left_behind(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    lives(TRACKERS.parse("mlflow").build(), tmp_path)
    client = mlflow.MlflowClient((tmp_path / "there").as_uri())
    number = client.get_experiment_by_name("p").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([number])}
    assert set(runs) == {"first", "first.2"}
    assert runs["first"].data.tags["paramserver.left_behind"] == "went back to step 8, see first.2"
    history = client.get_metric_history(runs["first.2"].info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == WHOLE


def test_trackio_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "there"))
    lives(TRACKERS.parse("trackio").build(), tmp_path)
    logs = {name: SQLiteStorage.get_logs("p", name) for name in SQLiteStorage.get_runs("p")}
    found = [(row["step"], row["train/loss"]) for row in logs["first.2"] if "train/loss" in row]
    assert sorted(found) == WHOLE and set(logs) == {"first", "first.2"}
