"""Returning: which clients that are away are counted on, so that a round waits for them and for nobody else."""

from __future__ import annotations

import math

OVERDUE = 5.0
"""Seconds after the time at which a client was to come back after which nobody counts on it."""


class Returning:
    """Clients that were told to come back later, and those that are gone and may be started again."""

    def __init__(self, now: float) -> None:
        self._due = now
        """When the last of those that were told to come back is to be here."""
        self._lost_at = -math.inf
        """When a client was found to be gone."""

    def sent_away(self, until: float) -> None:
        """A client was told to come back at this time."""
        self._due = max(self._due, until)

    def lost(self, now: float) -> None:
        """A client was found to be gone; one that was killed may be started again."""
        self._lost_at = now

    def soon(self, now: float) -> bool:
        """Whether clients that were sent away can be counted on still."""
        return now < self._due + OVERDUE

    def again(self, now: float) -> bool:
        """Whether one that was killed may have been started again just now."""
        return now < self._lost_at + OVERDUE

    @property
    def ends(self) -> tuple[float, float]:
        """When nobody is counted on any more of either kind."""
        return self._due + OVERDUE, self._lost_at + OVERDUE
