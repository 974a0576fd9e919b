"""A run that is killed and given again leaves one record and one curve, from its first step to its last."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.test_checkpoint import await_whole, kill_all
from ps.record_lives import RecordLives
from support.cluster import SCRIPTS, Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

SCRIPT = str(SCRIPTS / "resumed.py")
Run = Callable[..., Process]


def of_the_run(folder: Path) -> list[tuple[int, int]]:
    """Return rank and clock of each step of the run, in order."""
    lives = RecordLives.read(folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return sorted((line["rank"], line["clock"]) for line in lines if lives.has_step(line))


def test_a_run_that_was_killed_and_one_that_went_back_are_one_in_the_record_and_at_the_tracker(
    command: Run, forked: Run, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    kept, record, there = tmp_path / "kept", tmp_path / "record", tmp_path / "there"
    flags = ("-s", 1, "-w", 2, "--optimizer", "sgd:lr=0.01", "--grace", "8", "--checkpoint-every", 10, "--keep", 9)
    flags += ("--run-dir", record, "--track", "tensorboard", "--track-dir", there)
    gate, steps = tmp_path / "gate", ("--nap", 0.06)
    first = command("run", *flags, "--checkpoint-dir", kept, SCRIPT, *steps, "--gate", f"39:{gate}")
    first.wait_for("GATE 0")
    first.wait_for("GATE 1")
    await_whole(kept, 3, first)
    kill_all(first)
    gate.touch()
    (kept / "step-000030" / "manifest.json").unlink()
    lost = sum(clock >= 20 for _, clock in of_the_run(record))
    second = forked("run", *flags, "--checkpoint-dir", kept, SCRIPT, *steps, "--gate", f"39:{gate}")
    assert second.wait(60) == 0, second.text
    assert f"{lost} lines of the record after step 20 stay, and are not of this run any more" in second.text
    assert lost > 20
    whole = [(rank, clock) for rank in (0, 1) for clock in range(40)]
    assert of_the_run(record) == whole
    third = forked("run", *flags, "--resume", kept / "step-000010", SCRIPT, "--gate", f"39:{gate}", "--stop-at", 29)
    assert third.wait(60) == 0, third.text
    assert of_the_run(record) == [(rank, clock) for rank in (0, 1) for clock in range(30)]
    summary = json.loads((record / "summary.json").read_text())
    assert summary["steps"] == 30 and [life["step"] for life in summary["lives"]] == [0, 20, 10]
    events = accumulator.EventAccumulator(str(there / "record"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 31))


def test_one_that_was_killed_before_its_first_checkpoint_begins_anew_in_its_record(
    command: Run, forked: Run, tmp_path: Path
) -> None:
    flags = ("-s", 1, "-w", 1, "--grace", "8", "--run-dir", tmp_path / "record", "--checkpoint-dir", tmp_path / "kept")
    gate = tmp_path / "gate"
    first = command("run", *flags, SCRIPT, "--epochs", 1, "--gate", f"3:{gate}")
    first.wait_for("GATE 0")
    kill_all(first)
    gate.touch()
    second = forked("run", *flags, SCRIPT, "--epochs", 1, "--gate", f"3:{gate}")
    assert second.wait(60) == 0, second.text
    assert of_the_run(tmp_path / "record") == [(0, clock) for clock in range(16)]
