"""Deadlines: how long clients and rounds take, so that deadlines and waits follow what was seen instead of a guess."""

from __future__ import annotations

import logging
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Any

from ps.server.scheduler.rounds.task import ACCEPTED, Task

log = logging.getLogger("ps.scheduler")

FIRST_DEADLINE = 600.0
"""Seconds of a round before the clients' times are known."""
FIRST_WAIT = 0.2
"""Seconds after which clients come back while no round has been seen."""
LEAST_DEADLINE = 5.0
"""Seconds of a round, at least."""
ENOUGH = 5
"""Times that must have been seen before a deadline is made of them."""
MOST_DOUBLED = 10
"""Times that a deadline is doubled because attempts fail, at most."""
SLACK = 2.0
"""The deadline is so many times what nine of ten clients need."""
HABIT = 3
"""Rounds in a row for which a client was late before that counts as its habit."""
MOST_CLIENTS = 200
"""Clients whose times are remembered, at most: those that were here last."""
MOST_NAMED = 100
"""Slow clients that are named, at most."""
SOONEST, LATEST = 0.05, 30.0
"""Seconds after which a client is told to come back, at least and, while few are there, at most."""
CROWD = 4
"""Clients that should be waiting at the end of a round, for each that is needed; more may stay away longer."""


class Deadlines:
    """Remembers the last times only: one for each client, so that nobody counts twice by taking part often."""

    def __init__(self, fixed: float | None, most: float) -> None:
        """``fixed`` is the deadline that was set, in seconds; None lets it follow the clients.

        Clients that need more than ``most`` times what the typical one does are not waited for: a few that walk slowly,
        on purpose or not, move the deadline no further.
        """
        self._fixed = fixed
        self._most = most
        self._tasks: dict[int, float] = {}
        """Client -> seconds from its last assignment to its submission; who was here last is the last."""
        self._missed: dict[int, int] = {}
        """Client -> rounds in a row that it took part in and was late for."""
        self.rounds: deque[float] = deque(maxlen=5)
        """Seconds that rounds needed, without the time in which they waited for clients that were told to stay away."""

    def took(self, client: int, seconds: float) -> None:
        """A client has submitted, so many seconds after its assignment."""
        self._missed.pop(client, None)
        self._tasks.pop(client, None)
        self._tasks[client] = seconds
        while len(self._tasks) > MOST_CLIENTS:
            del self._tasks[next(iter(self._tasks))]

    def late(self, clients: Iterable[int]) -> None:
        """These clients did not submit before their round's deadline; name those whose habit that has just become."""
        for client in clients:
            count = self._missed.pop(client, 0) + 1
            self._missed[client] = count
            if count == HABIT:
                log.warning("client %d is late by habit: the last %d rounds it was in ended without it", client, count)
        while len(self._missed) > MOST_CLIENTS:
            del self._missed[next(iter(self._missed))]

    @property
    def slow(self) -> list[int]:
        """The clients that are late by habit, or that are too slow to be waited for; some of them if they are many."""
        late = {client for client, count in self._missed.items() if count >= HABIT}
        if self._known:
            limit = self._most * statistics.median(self._tasks.values())
            late |= {client for client, seconds in self._tasks.items() if seconds > limit}
        return sorted(late)[:MOST_NAMED]

    @property
    def _known(self) -> bool:
        return len(self._tasks) >= ENOUGH

    def deadline(self, failed: int = 0) -> float:
        """Return the seconds that the next round may take, twice as many for each attempt at it that ``failed``."""
        if self._fixed is not None:
            return self._fixed
        return self._typical_deadline() * float(1 << min(failed, MOST_DOUBLED))

    def _typical_deadline(self) -> float:
        if not self._known:
            return FIRST_DEADLINE
        times = sorted(self._tasks.values())
        nine_of_ten = times[int(0.9 * (len(times) - 1))]
        return max(LEAST_DEADLINE, SLACK * min(nine_of_ten, self._most * statistics.median(times)))

    def wait(self, elapsed: float, clients: int, wanted: int, chance: float) -> float:
        """Return the seconds after which a client should come back, ``elapsed`` seconds into a round.

        Of a round that takes longer than usual, or that is the first, is asked less and less often: after a tenth of
        what has passed. Where many more are there than are needed, ``chance``, from 0 to 1, spreads them over rounds to
        come.
        """
        typical = statistics.median(self.rounds) if self.rounds else FIRST_WAIT
        left = min(max(typical - elapsed, 0.1 * max(typical, elapsed), SOONEST), LATEST)
        return left + 2 * typical * chance * max(0.0, clients / (CROWD * max(1, wanted)) - 1)

    def nearly_over(self, elapsed: float) -> bool:
        """Whether half of a typical round has passed, so that clients who come now may as well wait for the next."""
        return bool(self.rounds) and 2 * elapsed >= statistics.median(self.rounds)

    def dump(self) -> dict[str, Any]:
        """Return the times as plain values."""
        rows = [[list(row) for row in found.items()] for found in (self._tasks, self._missed)]
        return {"tasks": rows[0], "missed": rows[1], "rounds": list(self.rounds)}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self._tasks = dict(values["tasks"])
        self._missed = dict(values["missed"])
        self.rounds.extend(values["rounds"])


def needed(tasks: Iterable[Task], since: float, closed: float, now: float) -> float:
    """Return the seconds that a round needed that was begun, closed and published at these times.

    That is its clients' work and its end, and not the time in which it waited for clients to come: they were told when.
    """
    work = max((task.submitted - task.began for task in tasks if task.state == ACCEPTED), default=0.0)
    return min(work, closed - since) + now - closed
