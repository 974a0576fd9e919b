"""Fruitless: clients that take part and of whose contributions none counts, so that somebody looks into it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection

from ps.server.scheduler.rounds.task import VANISHED

log = logging.getLogger("ps.scheduler")

HABIT = 3
"""Contributions in a row that were refused before their client is named."""
MOST_CLIENTS = 1000
"""Clients that are remembered, at most: those that were refused last."""
MOST_NAMED = 100
NO_FAULT = (VANISHED, "declined", "unfinished")
"""What became of tasks of which nothing was refused: who is late by habit is told by Deadlines."""


class Fruitless:
    """Counts refusals in a row, by client and reason. After a restart it begins anew."""

    def __init__(self) -> None:
        self._refused: dict[int, Counter[str]] = {}

    def counted(self, client: int) -> None:
        """A client's contribution counts."""
        self._refused.pop(client, None)

    def refused(self, client: int, why: str) -> None:
        """A client's contribution does not count; warn when that has become its habit."""
        if why in NO_FAULT:
            return
        reasons = self._refused.pop(client, Counter())
        reasons[why] += 1
        self._refused[client] = reasons
        while len(self._refused) > MOST_CLIENTS:
            del self._refused[next(iter(self._refused))]
        total = reasons.total()
        if total in (HABIT, 10 * HABIT, 100 * HABIT):
            said = ", ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items()))
            log.warning("nothing of client %d counts: its last %d contributions were refused, %s", client, total, said)

    def count(self, reasons: Collection[str]) -> int:
        """Return how many clients have had nothing but refusals lately, and some of them for these reasons."""
        return sum(any(why in found for why in reasons) for found in self._refused.values())

    @property
    def clients(self) -> list[int]:
        """The clients of whose last contributions none counts; some of them if they are many."""
        return sorted(client for client, found in self._refused.items() if found.total() >= HABIT)[:MOST_NAMED]
