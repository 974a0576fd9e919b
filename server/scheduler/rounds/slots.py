"""Slots: how many clients of an asynchronous job have a task at once, those that hang not counted."""

from __future__ import annotations

import logging
import math

from ps.server.scheduler.rounds.task import OPEN
from ps.server.scheduler.rounds.tasks import Tasks

log = logging.getLogger("ps.scheduler")


class Slots:
    """A client that has had its task for longer than its deadline holds no slot any more: another takes its place.

    Its contribution still counts if it comes. So who hangs keeps nobody waiting, and who is slow loses nothing.
    """

    def __init__(self, count: int) -> None:
        self.look_at = math.inf
        """When the next client may have had its task for too long."""
        self._count = count
        self._overdue: set[int] = set()

    def free(self, tasks: Tasks, now: float, deadline: float) -> int:
        """Return how many clients may be given a task; none is waited for longer than ``deadline`` seconds."""
        if now >= self.look_at or math.isinf(self.look_at):
            began = {number: tasks[number].began for number in tasks.active if tasks[number].state == OPEN}
            found = {number for number, at in began.items() if now - at >= deadline}
            for task in (tasks[number] for number in sorted(found - self._overdue)):
                words = (
                    "client %d has had task %d for %.0f s, and others need less than %.0f s: its place is another's now"
                )
                log.warning(words, task.rank, task.number, now - task.began, deadline)
            self._overdue = found
            self.look_at = min((at for number, at in began.items() if number not in found), default=now) + deadline
        return self._count - len(tasks.active - self._overdue)

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count
