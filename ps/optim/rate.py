"""LearningRate: the base rate, which may be set anew while a job runs, times the schedule's factor."""

from __future__ import annotations

from ps.optim.schedule import Schedule


class LearningRate:
    """The learning rate of each clock (0-based step)."""

    def __init__(self, base: float, schedule: Schedule) -> None:
        self._changes: dict[int, float] = {0: base}
        self._schedule = schedule

    def set(self, clock: int, lr: float) -> None:
        """From ``clock`` on, until a later change, the base is ``lr``."""
        self._changes[clock] = lr
        past = sorted(self._changes)[:-64]  # a script that sets it each step must not fill the memory
        for old in past:
            del self._changes[old]

    def __call__(self, clock: int) -> float:
        """Return the learning rate of a clock; the oldest known base for clocks before it."""
        known = [start for start in self._changes if start <= clock]
        return self._changes[max(known, default=min(self._changes))] * self._schedule(clock)
