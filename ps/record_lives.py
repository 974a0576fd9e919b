"""RecordLives: which lines of a run's record are of the run, where it was cut off and gone on from a checkpoint.

Each life that goes on in a record's folder leaves a line in ``lives.jsonl``: from which step of which life it went on.
What lives before it have written of later steps stays in the files, and is not part of the run any more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ps.dataclass import dataclass
from ps.json_lines import amount, objects
from ps.record_files import EVALUATIONS, LIVES, METRICS
from ps.regular_file import open_regular

FIRST = 1
"""The life of a line that says none."""


@dataclass(frozen=True, slots=True)
class RecordLife:
    """A life that goes on after ``step`` steps of the life ``parent``, or, with 0 of both, begins.

    ``steps``: rank -> its own number of steps, where workers have clocks of their own. ``run``: what the lives of one
    folder of checkpoints have in common; ``tracked``: what trackers know the run as.
    """

    number: int
    parent: int
    step: int
    run: str
    tracked: str
    steps: Mapping[int, int] = field(default_factory=dict)
    before: str = ""
    """What they knew it as, where they know of steps that were lost."""

    def steps_of(self, rank: Any) -> int:
        """Return how many steps of a rank it took over."""
        return self.steps.get(rank, self.step)

    def pack(self) -> dict[str, Any]:
        """Return it as a line of the record."""
        own = {"steps": {str(rank): step for rank, step in self.steps.items()}} if self.steps else {}
        about = {"life": self.number, "parent": self.parent, "step": self.step, **own}
        return {**about, "run": self.run, "tracked": self.tracked, "before": self.before}

    @staticmethod
    def unpack(line: Mapping[str, Any]) -> RecordLife | None:
        """Return what a line says; None where it is none of ours."""
        try:
            steps = {int(rank): int(step) for rank, step in dict(line.get("steps") or {}).items()}
            numbers = int(line["life"]), int(line["parent"]), int(line["step"])
            names = str(line["run"]), str(line["tracked"])
            return RecordLife(*numbers, *names, steps, str(line.get("before", "")))
        except (LookupError, TypeError, ValueError, OverflowError):
            return None


class RecordLives:
    """The lives in a record's folder; without any, every line is of the run."""

    def __init__(self, lives: Mapping[int, RecordLife]) -> None:
        self.all = lives
        self._line: dict[int, tuple[RecordLife, ...]] = {}
        """Life -> those that have gone on after it, for each of the run's line."""
        after: tuple[RecordLife, ...] = ()
        life = lives.get(max(lives, default=0))
        while life is not None and life.number not in self._line:
            self._line[life.number] = after
            after, life = (*after, life), lives.get(life.parent)
        if after and after[-1].parent:  # its own lines are here, and none that says that it has begun
            self._line.setdefault(after[-1].parent, after)

    @staticmethod
    def read(folder: Path) -> RecordLives:
        """Return those of a folder. Nothing is raised for what is missing or torn."""
        found = (RecordLife.unpack(line) for line in _lines(folder / LIVES))
        return RecordLives({life.number: life for life in found if life is not None})

    @property
    def latest(self) -> RecordLife | None:
        """The last one."""
        return self.all.get(max(self.all, default=0))

    def has_step(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of ``metrics.jsonl`` is of the run; its clock is how many steps were done before."""
        return self._has(line, amount(line, "clock") + 1)

    def has_evaluation(self, line: Mapping[str, Any]) -> bool:
        """Whether a line of ``evaluations.jsonl`` is; its clock is how many steps the model has been through."""
        return self._has(line, amount(line, "clock"))

    def _has(self, line: Mapping[str, Any], done: float) -> bool:
        if not self.all:
            return True
        after = self._line.get(line.get("life", FIRST))
        return after is not None and all(done <= life.steps_of(line.get("rank")) for life in after)

    def lost(self, folder: Path, before: RecordLives) -> int:
        """Return how many lines of a folder are not of the run any more, beyond those that were not before."""
        steps = sum(before.has_step(line) - self.has_step(line) for line in _lines(folder / METRICS))
        return steps + sum(
            before.has_evaluation(line) - self.has_evaluation(line) for line in _lines(folder / EVALUATIONS)
        )


def go_on(folder: Path, life: RecordLife) -> tuple[RecordLife, int]:
    """Have a record go on with a life. Return it as it is tracked, and how many lines are left behind by it.

    Where some are, trackers get a run of its own, since most take nothing back. Raises OSError.
    """
    before = RecordLives.read(folder)
    lost = RecordLives({**before.all, life.number: life}).lost(folder, before)
    known = before.latest.tracked if before.latest is not None else life.tracked
    tracked = (f"{life.run}.{life.number}", known) if lost else (known, "")
    now = RecordLife(life.number, life.parent, life.step, life.run, tracked[0], life.steps, tracked[1])
    for name in (METRICS, EVALUATIONS, LIVES):
        _end_line(folder / name)
    with (folder / LIVES).open("a") as file:
        file.write(json.dumps({**now.pack(), "t": round(time.time(), 3)}) + "\n")
    return now, lost


def _end_line(path: Path) -> None:
    """End the last line of a file that a death has cut off, so that it does not spoil the next one."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
            file.write(b"\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open_regular(path) as file:
            yield from objects(file)
    except (OSError, ValueError):
        return
