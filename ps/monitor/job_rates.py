"""JobRates: what a job does in a second, from how much it had done in the statuses of the last few."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from ps.monitor.values import amount, mean, rows

WINDOW = 5.0
"""Seconds over which rates are taken: members tell how far they are about once a second."""

Counts = dict[int, tuple[float, float, float, float, float]]
"""Of each worker: its clock, steps, bytes up and down, and the seconds that it has waited."""


class JobRates:
    """Remembers what workers had done since not too long."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Counts]] = deque()

    def look(self, status: Mapping[str, Any], now: float) -> dict[str, float]:
        """Take a status; return the rates, once there are two: steps, bytes up and down a second, waiting (share).

        Of a federated job steps are those of all clients together; else those of a worker, on average.
        """
        live = [row for row in rows(status.get("workers")) if row.get("state") == "live"]
        keys = ("clock", "steps", "bytes_up", "bytes_down", "wait_s")
        counts: Counts = {}
        for row in live:
            clock, steps, up, down, waited = (amount(row.get(key)) for key in keys)
            counts[hash(row.get("id"))] = clock, steps, up, down, waited
        self._seen.append((now, counts))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        began, first = self._seen[0]
        took = now - began
        if took <= 0:
            return {}
        both = [(first[member], counts[member]) for member in counts if member in first]
        if not both:
            return {}

        def rate(column: int) -> list[float]:
            return [max(0.0, after[column] - before[column]) / took for before, after in both]

        federated = bool(status.get("federated"))
        return {
            "steps_per_s": sum(rate(1)) if federated else mean(rate(0)) or 0.0,
            "up_per_s": sum(rate(2)),
            "down_per_s": sum(rate(3)),
            "waiting": min(1.0, mean(rate(4)) or 0.0),
        }
