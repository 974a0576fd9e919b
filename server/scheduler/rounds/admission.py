"""Admission: when contributions can be judged at all, and the verdicts, each of which teaches what is typical."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from ps.aggregators import Aggregator
from ps.algorithms import Algorithm, effective_steps
from ps.config.federated import most_stale, unused_optimizer
from ps.config.job import JobConfig
from ps.protocol.messages.federated import COMPARED
from ps.server.scheduler.rounds.task import ACCEPTED, STALE, Task
from ps.server.scheduler.rounds.typical import Typical
from ps.server.scheduler.rounds.verdict import AdmissionPolicy, Verdict, credible, judge, judge_clipped

log = logging.getLogger("ps.scheduler")


class Admission:
    """What is typical, and the job's policies."""

    def __init__(self, job: JobConfig, algorithm: Algorithm, aggregator: Aggregator) -> None:
        if unused := unused_optimizer(job, algorithm):
            log.warning("%s", unused)
        self.capped = 0
        """How many contributions weighed less than their clients claimed examples."""
        self._masked = job.specs.secure.build().masks
        self._private = job.dp is not None
        self._policy = AdmissionPolicy(job, algorithm, aggregator, job.specs.local_optimizer.build())
        self._typical = Typical()

    def possible(self, ready: Sequence[Task], version: int, more: bool) -> bool:
        """Whether it is known what is typical, or nothing more will come from which it could be.

        ``ready`` could be judged now, ``version`` being the published one; ``more``: whether others may still come.
        """
        if self._typical.known or self._masked or self._private:
            return True
        sound = [task for task in ready if not task.wrong]
        if len(self._typical.norms) + sum(not task.seen for task in sound) < COMPARED and more:
            return False
        for task in sound:
            self._see(task, version)
        return True

    def decide(self, task: Task, version: int, clip: float = 0.0) -> Verdict:
        """Return the verdict on a contribution, ``version`` being the published one; ``clip`` the ledger's."""
        if self._masked:  # nobody knows its norm, or what its client has done: all count alike
            if self._policy.algorithm.buffer and version - task.round > most_stale(
                self._policy.job, self._policy.algorithm
            ):
                return Verdict(STALE)
            return Verdict(task.wrong) if task.wrong else Verdict(ACCEPTED, 1.0, 1.0, 1.0, 1)
        if self._private:
            return judge_clipped(task, version, clip)
        self._see(task, version)
        found = judge(task, version, self._policy, self._typical)
        self.capped += found.capped
        return found

    def effective(self, steps: int) -> float:
        """Return of how many gradients a delta of so many steps is the sum."""
        return effective_steps(self._policy.local, steps)

    def _see(self, task: Task, version: int) -> None:
        policy, typical = self._policy, self._typical
        if math.isfinite(task.norm_squared) and credible(task) and not (task.seen or task.wrong):
            typical.see(task.examples, task.steps)
            norm = policy.norm(task, version, typical)
            typical.measure(norm, policy.weight(task, typical) * norm)
            task.seen = True

    def dump(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {"usual": self._typical.dump(), "capped": self.capped}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._typical.load(values["usual"])
        self.capped = values["capped"]
