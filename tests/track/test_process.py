"""A tracker beside the training: whatever it does, it costs nothing, is told of once, and ends within seconds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ps.record_files import EVALUATIONS, METRICS
from ps.track import process as process_module
from ps.track.process import TrackerProcess

PLUGIN = """
import json, time
from dataclasses import dataclass
from ps.plugins import tracker


@dataclass(frozen=True, slots=True)
class Base:
    module = "json"
    package = "nothing"

    def open(self, run):
        self.note({{"open": run.name, "settings": dict(run.settings)}})
        return self

    def note(self, what):
        with open({path!r}, "a") as file:
            file.write(json.dumps(what) + "\\n")

    def log(self, values, step):
        self.note([step, values])

    def close(self):
        self.note("closed")


@tracker("good")
@dataclass(frozen=True, slots=True)
class Good(Base):
    pass


@tracker("refused")
@dataclass(frozen=True, slots=True)
class Refused(Base):
    def open(self, run):
        raise ConnectionRefusedError("nobody\\nthere \\x1b]0;x")


@tracker("silent")
@dataclass(frozen=True, slots=True)
class Silent(Base):
    def open(self, run):
        self.note("asked")
        time.sleep(1000)


@tracker("broken")
@dataclass(frozen=True, slots=True)
class Broken(Base):
    def log(self, values, step):
        if 3 <= step < 6:
            raise OSError("500")
        self.note([step, values])


@tracker("endless")
@dataclass(frozen=True, slots=True)
class Endless(Base):
    def close(self):
        self.note("asked")
        time.sleep(1000)
"""


class Tracked:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.said = folder, list[str]()
        self.file = folder / "seen.jsonl"
        (folder / "my_trackers.py").write_text(PLUGIN.format(path=str(self.file)))
        monkeypatch.chdir(folder)

    def run(self, name: str, steps: int = 8, wait_for: str = "") -> tuple[list[Any], float]:
        """Track some steps; return what the tracker saw, and the most seconds that one call took but the last."""
        about = {"project": "p", "name": "first", "directory": None}
        slowest = 0.0
        tracker = TrackerProcess(name, self.folder, about, self.said.append, ("my_trackers",))
        with (self.folder / METRICS).open("w") as file:
            for clock in range(steps):
                file.write(json.dumps({"rank": 0, "clock": clock, "loss": 1.0 / (clock + 1)}) + "\n")
        (self.folder / EVALUATIONS).write_text(json.dumps({"rank": 0, "clock": 8, "accuracy": 0.5}) + "\n")
        history = [{"round": 0, "accepted": 2}]
        for _ in range(2000):  # more than a pipe holds
            since = time.monotonic()
            tracker.note({"phase": "running", "job": {"mode": "sync"}, "federated": {"history": history}})
            history = [{"round": history[0]["round"] + 1, "accepted": 2, "padding": "x" * 500}]
            slowest = max(slowest, time.monotonic() - since)
        deadline = time.monotonic() + 30
        while (
            wait_for and time.monotonic() < deadline and not (self.file.exists() and wait_for in self.file.read_text())
        ):
            time.sleep(0.05)
        tracker.close()
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [json.loads(line) for line in lines], slowest


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracked:
    return Tracked(tmp_path, monkeypatch)


def test_steps_evaluations_and_rounds_come_with_the_settings_and_the_end(tracked: Tracked) -> None:
    seen, _ = tracked.run("good")
    assert seen[0] == {"open": "first", "settings": {"mode": "sync"}}
    assert seen[-1] == "closed" and tracked.said == []
    points = [(step, name) for step, values in seen[1:-1] for name in values]
    assert [step for step, name in points if name == "train/loss"] == list(range(1, 9))
    assert (8, "eval/accuracy") in points and (1, "round/accepted") in points


@pytest.mark.parametrize(("name", "wait_for"), [("silent", "asked"), ("endless", "[8, ")])
def test_one_that_hangs_is_ended_within_seconds_and_that_is_told(
    tracked: Tracked, name: str, wait_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "PATIENCE", 1.0)
    since = time.monotonic()
    _, slowest = tracked.run(name, wait_for=wait_for)
    assert tracked.said == [f"--track {name}: did not take the last values within 1 s; the run there is not complete"]
    assert slowest < 1.0 and time.monotonic() - since < 40


def test_one_that_cannot_be_reached_is_told_of_once_in_plain_text(tracked: Tracked) -> None:
    tracked.run("refused")
    first, *rest = tracked.said
    assert first.startswith("--track refused: takes nothing (ConnectionRefusedError: nobody there")
    assert "\x1b" not in first
    assert len(rest) == 1 and rest[0].endswith("points are not there")


def test_a_gap_is_told_once_and_so_is_its_end(tracked: Tracked) -> None:
    seen, _ = tracked.run("broken")
    assert [step for step, values in seen[1:-1] if "train/loss" in values] == [1, 2, 6, 7, 8]
    assert [text for text in tracked.said if "takes nothing (OSError: 500)" in text]
    assert tracked.said[-1].startswith("--track broken: takes values again; ")
    assert len(tracked.said) <= 4
