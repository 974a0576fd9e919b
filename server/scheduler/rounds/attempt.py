"""Attempt: the attempt at a round that is under way: when it began, and by when it is to end. Pure."""

from __future__ import annotations

import math


class Attempt:
    """Seconds on the scheduler's clock."""

    def __init__(self, now: float) -> None:
        self.since = self.closed_at = now
        """When its selection or, once clients are drawn, its collection began, and when the contributions were there
        that close it."""
        self.deadline = math.inf
        """Until when contributions are collected."""
        self.failed = 0
        """Attempts at this round that were abandoned."""
        self.overdue = False
        """Whether it was the deadline that ended the collection."""

    def late(self, now: float) -> bool:
        """Whether nothing is collected any more."""
        return now >= self.deadline

    def begin(self, now: float, seconds: float) -> None:
        """Collect from now on, for so long."""
        self.since, self.deadline = now, now + seconds

    def close(self, now: float) -> None:
        """What closes the round is there."""
        self.closed_at, self.overdue = now, self.late(now)

    def succeed(self, now: float) -> None:
        """The round is published: the next one's first attempt begins."""
        self.since, self.deadline, self.failed, self.overdue = now, math.inf, 0, False

    def fail(self, now: float, count: bool) -> None:
        """It is given up, which counts or not: the next one begins."""
        self.failed += count
        self.overdue = self.late(now)
        self.since, self.deadline = now, math.inf
