"""Promises of the comparison: every run is run or said not to be, whatever the others do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ps.compare.case import Case
from ps.compare.comparison import Callbacks, ComparisonPlan, prepare, run_all
from ps.errors import UsageError
from ps.script import Script

SCRIPT = """
import json, os, sys, time
folder = os.environ["PS_RUN_DIR"]
if os.environ.get("PS_SEED") == "13":
    sys.exit("unlucky")
with open(folder + "/evaluations.jsonl", "a") as lines:
    for clock in range(5):
        lines.write(json.dumps({"t": time.time(), "rank": 0, "clock": clock, "accuracy": clock / 5}) + chr(10))
        lines.flush()
        time.sleep(0.2 if folder.endswith("dropout") else 0.0)
"""


def plan(out: Path, seeds: list[int], drop: float | None) -> ComparisonPlan:
    script = out.parent / "script.py"
    script.write_text(SCRIPT)
    cases = [Case(f"run{seed}", f"Run {seed}", "centralized", 1, {"seed": seed}) for seed in seeds]
    return ComparisonPlan(Script(str(script)), (), cases, drop, 0, 30.0, out)


def watch(said: list[str], stop: bool = False) -> Callbacks:
    return Callbacks(lambda address, timeout: {}, lambda: stop, lambda: False, said.append, lambda text: None)


@pytest.mark.e2e
def test_a_run_that_fails_leaves_the_others_running_and_has_no_dropouts(tmp_path: Path) -> None:
    out, said = prepare(str(tmp_path / "out")), []
    results, dropouts = run_all(plan(out, [13, 7], 0.3), os.environ, watch(said))
    assert [result.outcome.ended for result in results] == ["failed", "finished"]
    assert results[0].outcome.tail == ("unlucky",)
    assert results[1].record.points[-1].value == 0.8
    assert dropouts[0].outcome.ended == "not run"
    assert dropouts[0].outcome.why == "the run without drop-outs did not finish: exit code 1"
    assert (dropouts[1].outcome.ended, dropouts[1].outcome.killed) == ("failed", (0,))
    assert len(said) == 3
    assert "run7-dropout, 4 of 4: 1 of 1 killed, and lost" in said[-1]


def test_what_is_interrupted_is_not_begun(tmp_path: Path) -> None:
    out = prepare(str(tmp_path / "out"))
    results, dropouts = run_all(plan(out, [1, 2], None), os.environ, watch([], stop=True))
    assert [result.outcome.why for result in results] == ["interrupted before it"] * 2
    assert dropouts == []
    assert list(out.iterdir()) == []


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").touch()
    (tmp_path / "out-2").mkdir()
    with pytest.raises(UsageError, match=r"out is not empty; remove it, or try: --out .*out-3"):
        prepare(str(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"cannot write the comparison to .*report[.]json: "):
        prepare(str(tmp_path / "out" / "report.json"))
