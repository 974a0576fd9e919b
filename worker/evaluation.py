"""Evaluation: what a script wants measured of the parameters while it trains, as it said with ``kv.evaluate``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from ps.errors import UsageError
from ps.worker.numbers import shown
from ps.worker.step_log import StepLog

Measure = Callable[[Any, Any], Any]
"""Takes parameters and data; returns a number, or a dict of numbers by name."""


class Evaluation:
    """Functions of parameters and data; their results go into ``evaluations.jsonl``."""

    def __init__(self, params: Callable[[], Mapping[str, Any]], log: StepLog) -> None:
        self._params = params
        self._log = log
        self._measures: list[tuple[Measure, Any]] = []
        self._last = -1

    def add(self, function: Measure, data: Any) -> None:
        """Measure ``function(params, data)`` too. Raises UsageError for what cannot be called.

        A number is called like the function that returned it; a second one of that name gets ``_2`` behind it.
        """
        if not callable(function):
            raise UsageError(f"kv.evaluate takes a function of parameters and data, not {type(function).__name__}")
        self._measures.append((function, data))

    def __bool__(self) -> bool:
        return bool(self._measures)

    def measure(self, choose: Callable[[Any], Any] = lambda data: data) -> dict[str, float]:
        """Return the results on what ``choose`` makes of the data. Raises UsageError for what is no number."""
        found: dict[str, float] = {}
        for function, data in self._measures:
            result = function(self._params(), choose(data))
            name = getattr(function, "__name__", "metric")
            for key, value in result.items() if isinstance(result, Mapping) else [(name, result)]:
                try:
                    found[_unused(str(key), found)] = float(value)
                except (TypeError, ValueError, OverflowError):
                    raise UsageError(f"what kv.evaluate measures is a number; {key} is {shown(value)}") from None
        return found

    def run(self, clock: int, *, again: bool = False) -> None:
        """Measure once for each clock, or once more, and write it down."""
        if self._measures and (again or clock != self._last):
            self._last = clock
            self._log.evaluation(clock, self.measure())


def _unused(name: str, found: Mapping[str, float]) -> str:
    """Return a name that is not among those found, this one if possible."""
    if name not in found:
        return name
    return next(other for number in itertools.count(2) if (other := f"{name}_{number}") not in found)
