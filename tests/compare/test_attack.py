"""Promises of the attack: it strikes once, in the middle, by clock or by time, and says whom it hit."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from ps.compare.attack import Attack, Middle
from ps.record_files import EVALUATIONS, METRICS


class Scene:
    """An attack on ranks 1 and 3, of which only some are live, at a time that the test says."""

    def __init__(self, folder: Path, live: dict[int, int]) -> None:
        self.now = 1000.0
        self.hits: list[tuple[int, int]] = []
        self.folder = folder
        self.attack = Attack((1, 3), Middle(10, 5.0), folder, lambda: live, kill=self.kill, clock=lambda: self.now)

    def kill(self, pid: int, signum: int) -> None:
        if pid == 666:
            raise ProcessLookupError
        self.hits.append((pid, signum))

    def step(self, clock: int, file: str = METRICS) -> None:
        with (self.folder / file).open("a") as lines:
            lines.write(json.dumps({"t": self.now, "rank": 0, "clock": clock}) + "\n")
        self.attack.tick()


def test_it_strikes_at_half_of_the_clocks_and_only_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {0: 100, 1: 101, 3: 103})
    scene.step(9)
    assert scene.hits == []
    scene.now = 1001.0
    scene.step(10)
    scene.step(11)
    assert scene.hits == [(101, signal.SIGKILL), (103, signal.SIGKILL)]
    assert (scene.attack.killed, scene.attack.moment, scene.attack.at_clock) == ((1, 3), 1001.0, 10)


def test_it_strikes_at_half_of_the_time_when_the_record_lags_behind(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {1: 101})
    scene.step(0)
    scene.now += 4.9
    scene.attack.tick()
    assert scene.hits == []
    scene.now += 0.2
    scene.attack.tick()
    assert scene.attack.killed == (1,)


def test_an_evaluation_is_progress_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {1: 101})
    scene.step(12, EVALUATIONS)
    assert scene.attack.killed == (1,)


def test_nothing_begins_before_the_first_step(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {1: 101})
    scene.now += 1e6
    scene.attack.tick()
    assert scene.attack.killed == ()


def test_whoever_is_gone_already_was_not_killed(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {1: 666, 3: 103})
    scene.step(10)
    assert scene.attack.killed == (3,)
