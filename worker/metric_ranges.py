"""MetricRanges: between what a worker's metrics were of late, so that whoever looks once a second misses no spike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MOST = 8
"""Metrics of which this is kept, at most."""

_NOT_FINITE = ("nan", "inf", "-inf")


class MetricRanges:
    """The least and the greatest of each metric that is a number, and how many were not finite.

    What ``take`` returns reaches back over two calls of it: who sees every other report sees every step. One thread
    notes, another one takes.
    """

    def __init__(self) -> None:
        self._now: dict[str, list[float]] = {}
        self._before: dict[str, list[float]] = {}

    def note(self, metrics: Mapping[str, Any]) -> None:
        """Take a step's metrics, as they are written down: what is not finite is a text."""
        ranges = self._now
        for name, value in metrics.items():
            row = ranges.get(name)
            if row is not None and type(value) is float:
                if value < row[0]:
                    row[0] = value
                if value > row[1]:
                    row[1] = value
            elif len(ranges) < MOST or row is not None:
                _add(ranges, name, value, row)

    def take(self) -> dict[str, list[float | None]]:
        """Return what there was since the call before the last one, by name: least, greatest, how many not finite.

        Least and greatest are None where none was finite.
        """
        last, self._now = self._now, {}
        found = {name: list(row) for name, row in list(self._before.items())}
        for name, (low, high, odd) in list(last.items()):
            before = found.get(name, (low, high, 0))
            found[name] = [min(low, before[0]), max(high, before[1]), odd + before[2]]
        self._before = last
        return {
            name: [low, high, odd] if low <= high else [None, None, odd] for name, (low, high, odd) in found.items()
        }


def _add(ranges: dict[str, list[float]], name: str, value: Any, row: list[float] | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        if value not in _NOT_FINITE:
            return
        if row is None:
            row = ranges[name] = [math.inf, -math.inf, 0]
        row[2] += 1
        return
    if row is None:
        ranges[name] = [value, value, 0]
    else:
        row[0], row[1] = min(row[0], value), max(row[1], value)
