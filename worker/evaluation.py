"""Evaluation: what a script wants measured of the parameters while it trains, as it said with ``kv.evaluate``."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ps.errors import UsageError
from ps.worker.numbers import shown
from ps.worker.patience import Patience
from ps.worker.step_log import StepLog

log = logging.getLogger("ps.worker")

Measure = Callable[[Any, Any], Any]
"""Takes parameters and data; returns a number, or a dict of numbers by name."""


class Evaluation:
    """Functions of parameters and data; their results go into ``evaluations.jsonl``."""

    def __init__(
        self, params: Callable[[], Mapping[str, Any]], log: StepLog, stop: Callable[[str], None] = lambda reason: None
    ) -> None:
        """``stop`` ends training, for a reason."""
        self._params = params
        self._log = log
        self._stop = stop
        self.keep: Callable[[str, Callable[[], Any], Callable[[Any], None]], None] = lambda name, save, load: None
        """Has something be part of checkpoints, and taken back from one."""
        self._measures: list[tuple[Measure, Any, Patience | None]] = []
        self._last = -1

    def add(
        self,
        function: Measure,
        data: Any,
        patience: int | None = None,
        monitor: str | None = None,
        mode: str | None = None,
        min_delta: float = 0.0,
    ) -> None:
        """Measure ``function(params, data)`` too, with ``Patience``. Raises UsageError for what cannot be called.

        A number is called like the function that returned it; a second one of that name gets ``_2`` behind it.
        """
        if not callable(function):
            raise UsageError(f"kv.evaluate takes a function of parameters and data, not {type(function).__name__}")
        if patience is None and (monitor, mode, min_delta) != (None, None, 0.0):
            raise UsageError(
                "monitor, mode and min_delta go with patience, the number of evaluations without a better one"
            )
        given = None if patience is None else Patience(_name(function), patience, monitor, mode, min_delta)
        if given is not None:
            self.keep(f"kv.evaluate/{len(self._measures)}", given.dump, given.load)
        self._measures.append((function, data, given))

    @property
    def patient(self) -> bool:
        """Whether the end of training may depend on what is measured."""
        return any(patience is not None for _, _, patience in self._measures)

    def __bool__(self) -> bool:
        return bool(self._measures)

    def measure(self, choose: Callable[[Any], Any] = lambda data: data) -> dict[str, float]:
        """Return the results on what ``choose`` makes of the data. Raises UsageError for what is no number."""
        found: dict[str, float] = {}
        for function, data, _ in self._measures:
            found |= self._results(function, choose(data), found)
        return found

    def _results(self, function: Measure, data: Any, before: Mapping[str, float]) -> dict[str, float]:
        """Return what one function measures, under names that are not among those ``before`` it."""
        found: dict[str, float] = {}
        result = function(self._params(), data)
        for key, value in result.items() if isinstance(result, Mapping) else [(_name(function), result)]:
            try:
                found[_unused(str(key), {**before, **found})] = float(value)
            except (TypeError, ValueError, OverflowError):
                raise UsageError(f"what kv.evaluate measures is a number; {key} is {shown(value)}") from None
        return found

    def run(self, clock: int, *, again: bool = False, last: bool = False) -> None:
        """Measure once for each clock, or once more, and write it down; what does not get better ends training.

        ``last``: training has ended, and it is only said what was best.
        """
        if self._measures and (again or clock != self._last):
            self._last = clock
            found: dict[str, float] = {}
            reasons = []
            for function, data, patience in self._measures:
                results = self._results(function, data, found)
                found |= results
                if patience is not None:
                    reasons.append(patience.look(clock, results))
            self._log.evaluation(clock, found)
            if not last and (reason := next(filter(None, reasons), "")):
                self._stop(reason)
        for _, _, patience in self._measures if last else ():
            if patience is not None and patience.looked:
                log.info("%s", patience.describe())


def _name(function: Measure) -> str:
    return getattr(function, "__name__", "metric")


def _unused(name: str, found: Mapping[str, float]) -> str:
    """Return a name that is not among those found, this one if possible."""
    if name not in found:
        return name
    return next(other for number in itertools.count(2) if (other := f"{name}_{number}") not in found)
