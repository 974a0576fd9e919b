"""Judging: when contributions can be judged at all, and the verdicts, each of which teaches what is usual."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ps.algorithms import Algorithm
from ps.config.job import JobConfig
from ps.rules import Rule
from ps.server.federated.task import Task
from ps.server.federated.usual import KNOWN, Usual
from ps.server.federated.verdict import Verdict, credible, judge


class Judging:
    """What is usual, and the job's policies."""

    def __init__(self, job: JobConfig, algorithm: Algorithm, rule: Rule) -> None:
        self.capped = 0
        """How many clients claimed more examples than they are believed."""
        self._job = job
        self._algorithm = algorithm
        self._rule = rule
        self._usual = Usual()

    def possible(self, ready: Sequence[Task], more: bool) -> bool:
        """Whether it is known what is usual, or nothing more will come from which it could be.

        ``ready`` could be judged now; ``more`` says whether others may still come.
        """
        if self._usual.known:
            return True
        sound = [task for task in ready if not task.wrong]
        if len(self._usual.norms) + sum(not task.seen for task in sound) < KNOWN and more:
            return False
        for task in sound:
            self._see(task)
        return True

    def decide(self, task: Task, version: int) -> Verdict:
        """Return the verdict on a contribution, ``version`` being the published one."""
        self._see(task)
        found = judge(task, version, self._job, self._algorithm, self._rule, self._usual)
        self.capped += found.capped
        return found

    def _see(self, task: Task) -> None:
        norm = math.sqrt(task.norm_squared)
        if math.isfinite(norm) and credible(task) and not (task.seen or task.wrong):
            self._usual.see(norm, task.examples, task.steps)
            task.seen = True

    def dump(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {"usual": self._usual.dump(), "capped": self.capped}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._usual.load(values["usual"])
        self.capped = values["capped"]
