"""Pace: how long clients and rounds take, so that deadlines and waits follow what was seen instead of a guess."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

FIRST_DEADLINE = 600.0
"""Seconds of a round before the clients' times are known."""
FIRST_WAIT = 0.2
"""Seconds after which clients come back while no round has been seen."""
LEAST_DEADLINE = 5.0
"""Seconds of a round, at least."""
KNOWN = 5
"""Times that must have been seen before a deadline is made of them."""
MOST_DOUBLED = 10
"""Times that a deadline is doubled because attempts fail, at most."""
SLACK = 2.0
"""The deadline is so many times what nine of ten clients need."""
SOONEST, LATEST = 0.05, 30.0
"""Seconds after which a client is told to come back, at least and, while few are there, at most."""
CROWD = 4
"""Clients that should be waiting at the end of a round, for each that is needed; more may stay away longer."""


class Pace:
    """Remembers the last times only."""

    def __init__(self, fixed: float | None) -> None:
        """``fixed`` is the deadline that was set, in seconds; None lets it follow the clients."""
        self._fixed = fixed
        self.tasks: deque[float] = deque(maxlen=200)
        """Seconds from assignment to submission, also of those that came late."""
        self.rounds: deque[float] = deque(maxlen=20)
        """Seconds from one published version to the next."""

    def deadline(self, failed: int = 0) -> float:
        """Return the seconds that the next round may take, twice as many for each attempt at it that ``failed``."""
        if self._fixed is not None:
            return self._fixed
        return self._usual_deadline() * float(1 << min(failed, MOST_DOUBLED))

    def _usual_deadline(self) -> float:
        if len(self.tasks) < KNOWN:
            return FIRST_DEADLINE
        return max(LEAST_DEADLINE, SLACK * sorted(self.tasks)[int(0.9 * (len(self.tasks) - 1))])

    def wait(self, elapsed: float, clients: int, wanted: int, chance: float) -> float:
        """Return the seconds after which a client should come back, ``elapsed`` seconds into a round.

        Where many more are there than are needed, ``chance``, from 0 to 1, spreads them over the rounds to come.
        """
        usual = statistics.median(self.rounds) if self.rounds else FIRST_WAIT
        left = min(max(usual - elapsed, 0.1 * usual, SOONEST), LATEST)
        return left + 2 * usual * chance * max(0.0, clients / (CROWD * max(1, wanted)) - 1)

    def nearly_over(self, elapsed: float) -> bool:
        """Whether half of a usual round has passed, so that clients who come now may as well wait for the next."""
        return bool(self.rounds) and 2 * elapsed >= statistics.median(self.rounds)

    def dump(self) -> dict[str, Any]:
        """Return the times as plain values."""
        return {"tasks": list(self.tasks), "rounds": list(self.rounds)}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self.tasks.extend(values["tasks"])
        self.rounds.extend(values["rounds"])
