"""Scale: where a value stands on an axis, linear or logarithmic, and the round values at which the axis is marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FAR = 8.0
"""Series whose ends are so many times apart share a logarithmic axis: on a linear one the short ones would vanish."""


LEAST_EXTENT = 1e-9
"""Values that are closer together than this are drawn as one."""

_ERRORS = tuple(factor * 10.0**-power for power in range(1, 7) for factor in (10, 5, 2))
_HIGHEST = 1 - 1e-6


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from ``low`` to ``high``; ``kind`` is linear, log, or error: logarithmic in what is missing to 1."""

    low: float
    high: float
    kind: str = "linear"

    def place(self, value: float) -> float:
        """Return where a value stands: 0 at the low end, 1 at the high one."""
        low, high, at = (self._warp(v) for v in (self.low, self.high, value))
        return (at - low) / (high - low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values within the axis, about ``most`` and at least one."""
        if self.kind == "log":
            return _log_ticks(self.low, self.high, most)
        if self.kind == "error":
            found = [1 - error for error in _ERRORS if self.low <= 1 - error <= self.high]
            return found if len(found) <= most else found[:: -(-len(found) // most)]
        return _linear_ticks(self.low, self.high, most)

    def _warp(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        return -math.log(1 - min(value, _HIGHEST)) if self.kind == "error" else value


def along(series: Sequence[Sequence[float]]) -> Scale:
    """Return an axis on which each series of values from 0 upwards can be seen: logarithmic if they end far apart."""
    ends = [max(values) for values in series if values and max(values) > 0]
    if not ends:
        return Scale(0.0, 1.0)
    if max(ends) < FAR * min(ends):
        return Scale(0.0, max(ends))
    starts = [min(value for value in values if value > 0) for values in series if values and max(values) > 0]
    return Scale(min(starts), max(ends), "log")


def around(values: Sequence[float], top: float | None = None, least: float = 0.0) -> Scale:
    """Return a linear axis around values, from a round one below them to a round one above, at most ``top``.

    It is at least ``least`` long, so that a difference that means nothing does not look like much.
    """
    if not values:
        return Scale(0.0, 1.0)
    low, high = min(values), max(values)
    if high - low < least:
        middle = min((low + high) / 2, top - least / 2) if top is not None else (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    extent = (high - low) or abs(high)
    step = _step(extent if extent > LEAST_EXTENT else 1.0, 5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if top is not None and high > top:
        high = top
    return Scale(low, high if high > low else low + step)


def by_error(values: Sequence[float]) -> Scale:
    """Return an axis for accuracies, the longer the nearer to 1: 98 and 99 % are as far apart as 80 and 90 %."""
    ticks = [1 - error for error in _ERRORS]
    low = max((tick for tick in ticks if tick <= min(values)), default=0.0)
    high = min((tick for tick in ticks if tick >= min(max(values), _HIGHEST)), default=_HIGHEST)
    return Scale(low if low < high else 0.0, max(high, 0.5), "error")


def _step(span: float, most: int) -> float:
    rough = span / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    step = _step(high - low, most)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**e for e in range(first, last + 1) for f in factors if low <= f * 10.0**e <= high * 1.0001]
        if len(found) <= most:
            break
    else:
        found = found[:: math.ceil(len(found) / most)]
    return found or [low]
