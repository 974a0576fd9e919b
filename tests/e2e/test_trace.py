"""A traced run leaves one timeline that the viewers open, whatever became of the run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.chrome import Event, read_trace
from support.cluster import TRAIN, Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


def left(path: Path) -> list[Event]:
    """Return the events of a timeline, checked, of which nothing else may be left."""
    assert sorted(p.name for p in path.parent.iterdir() if p.name.startswith(path.name)) == [path.name]
    return read_trace(path)


def test_a_run_leaves_a_timeline(forked: Callable[..., Process], tmp_path: Path) -> None:
    run = forked("run", "-s", 2, "-w", 2, "--trace", tmp_path / "t.json", TRAIN, "--steps", 10)
    assert run.wait() == 0, run.text
    run.wait_for(r"the timeline of \d+ processe?s? is in .*t\.json: open it in https://ui\.perfetto\.dev")
    left(tmp_path / "t.json")


def test_an_interrupted_run_leaves_a_timeline(forked: Callable[..., Process], tmp_path: Path) -> None:
    run = forked("run", "-w", 2, "--trace", tmp_path / "t.json", TRAIN, "--steps", 10**6, "--nap", 0.002, "--shout")
    run.wait_for("clock 5 of rank 1")
    run.signal(signal.SIGINT)
    assert run.wait() == 130
    left(tmp_path / "t.json")


def test_a_run_with_a_failed_worker_leaves_a_timeline(forked: Callable[..., Process], tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import ps\nwith ps.connect() as kv: kv.init({'w': [0.0]}) if kv.rank else 1 / 0\n")
    run = forked("run", "-w", 2, "--trace", tmp_path / "t.json", script)
    assert run.wait() == 1, run.text
    left(tmp_path / "t.json")
