"""LearningRate: the base rate, which may be set anew while a job runs, times the schedule's factor."""

from __future__ import annotations

from ps.optim.schedule import Schedule

MEMORY = 64
"""Changes that are remembered, for contributions to earlier clocks."""


class LearningRate:
    """The learning rate of each clock (0-based step)."""

    def __init__(self, base: float, schedule: Schedule) -> None:
        self._changes: list[tuple[int, float]] = [(0, base)]
        self._schedule = schedule

    def set(self, clock: int, lr: float) -> None:
        """From ``clock`` on, until a later change, the base is ``lr``."""
        others = [change for change in self._changes if change[0] != clock]
        self._changes = sorted([*others, (clock, lr)])[-MEMORY:]

    def __call__(self, clock: int, done: int | None = None) -> float:
        """Return the learning rate of a clock; for clocks before all that is remembered, the oldest base.

        ``done``: what the schedule counts, where that are not clocks.
        """
        newest = len(self._changes) - 1
        while newest and self._changes[newest][0] > clock:
            newest -= 1
        return self._changes[newest][1] * self._schedule(clock if done is None else done)
