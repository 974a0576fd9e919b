"""Points: what a run's record says, as numbers by name and step for a tracker. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Point = tuple[int, dict[str, float]]
"""A step or round, and numbers by name."""

LATE = 3.0
"""Seconds for which a clock waits for the lines of the other workers."""
MOST_NAMES = 500
"""Names in a run, at most: clients may report what they like."""
MOST_NAME = 100
OURS = ("t", "rank", "clock", "bytes_up", "bytes_down", "samples", "verdict", "steps", "skipped", "life")
"""Columns of a line that are no metrics, or that add up to nothing that people plot."""
SUMS, MAXIMA = ("samples_per_s",), ("staleness",)
OF_ROUND = ("accepted", "selected", "spare", "seconds", "examples", "steps", "attempt")


class Points:
    """Workers' lines become one point a clock: means over those who contributed; their speeds add up."""

    def __init__(
        self, more: Callable[[int, float | None], Mapping[str, float]] = lambda clock, lr: {}, done: int = 0
    ) -> None:
        """``more``: what else there is to say of a clock, and of the learning rate that workers have set, if any.

        ``done``: how many steps have their points already.
        """
        self._more = more
        self._open: dict[int, tuple[float, list[Mapping[str, Any]]]] = {}
        """Clock -> when its first line came, and its lines."""
        self._clocks: dict[Any, int] = {}
        """Rank -> the last clock."""
        self._names: set[str] = set()
        self._done = done - 1

    def step(self, line: Mapping[str, Any], now: float) -> None:
        """Take a line of the metrics."""
        clock = line.get("clock")
        if isinstance(clock, int) and clock >= 0:
            self._clocks[line.get("rank")] = max(clock, self._clocks.get(line.get("rank"), -1))
            self._open.setdefault(clock, (now, []))[1].append(line)

    def due(self, now: float) -> list[Point]:
        """Return the clocks of which all lines are here, or that have waited for long enough; in order."""
        slowest, found = min(self._clocks.values(), default=-1), list[Point]()
        for clock in sorted(self._open):
            since, lines = self._open[clock]
            if clock > slowest and now - since < LATE:
                continue
            del self._open[clock]
            if clock <= self._done:
                continue  # of a worker that is far behind the others: a tracker's steps only grow
            self._done = clock
            values = self._of_clock(lines)
            values |= self._more(clock, values.pop("base_lr", None))
            found.append((clock + 1, self._kept("train", values)))
        return found

    def _of_clock(self, lines: list[Mapping[str, Any]]) -> dict[str, float]:
        numbers: dict[str, list[float]] = {}
        for line in lines:
            for name, value in line.items():
                if name not in OURS and (number := number_of(value)) is not None:
                    numbers.setdefault(name, []).append(number)
        return {name: _together(name, found) for name, found in numbers.items()}

    def evaluation(self, line: Mapping[str, Any]) -> list[Point]:
        """Return the point of a line of the evaluations."""
        values = {k: n for k, v in line.items() if k not in OURS and (n := number_of(v)) is not None}
        return self._point(line.get("clock"), "eval", values)

    def round(self, entry: Mapping[str, Any]) -> list[Point]:
        """Return the point of a round, with the means of what clients have reported."""
        number = entry.get("round")
        values = {name: n for name in OF_ROUND if (n := number_of(entry.get(name))) is not None}
        refused = entry.get("refused")
        if isinstance(refused, Mapping):
            values["refused"] = sum(n for v in refused.values() if (n := number_of(v)) is not None)
        for name, spread in (entry.get("metrics") or {}).items():
            if isinstance(spread, Mapping) and (mean := number_of(spread.get("mean"))) is not None:
                values[f"clients/{name}"] = mean
        return self._point(number + 1 if isinstance(number, int) else None, "round", values)

    def _point(self, step: Any, group: str, values: Mapping[str, float]) -> list[Point]:
        kept = self._kept(group, values)
        return [(step, kept)] if isinstance(step, int) and step >= 0 and kept else []

    def _kept(self, group: str, values: Mapping[str, float]) -> dict[str, float]:
        found = {}
        for name, value in values.items():
            full = f"{group}/{clean(name)}"
            if full in self._names or len(self._names) < MOST_NAMES:
                self._names.add(full)
                found[full] = value
        return found


def clean(name: str) -> str:
    """Return a metric's name as every tracker takes it: it may come from a client, and go into a page."""
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", str(name)[:MOST_NAME])


def number_of(value: Any) -> float | None:
    """Return a value of a record as a number, NaN and Inf included, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _together(name: str, numbers: list[float]) -> float:
    if name in SUMS:
        return sum(numbers)
    return max(numbers) if name in MAXIMA else sum(number / len(numbers) for number in numbers)
