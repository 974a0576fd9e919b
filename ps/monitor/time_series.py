"""TimeSeries: a curve of bounded length in which every spike stays."""

from __future__ import annotations

from typing import Any

from ps.monitor.values import short

MOST = 600
"""Points of a curve, at most; there are at least half as many once there were so many."""


class TimeSeries:
    """Points in buckets of equal width, each with the least, the greatest and the last value, and how many had none.

    Buckets begin at multiples of their width from the first point on, and become twice as wide when there are too
    many: what was drawn once does not move. Values are finite, or None.
    """

    def __init__(self, width: float = 1.0) -> None:
        """``width``: of a bucket at first, in the units of ``at``."""
        self._width = width
        self._origin: float | None = None
        self._buckets: list[_Bucket] = []

    def add(
        self, at: float, value: float | None, low: float | None = None, high: float | None = None, odd: int = 0
    ) -> None:
        """Take a point; earlier ones than the last count as of its time. ``odd``: values in it that were not finite."""
        if self._origin is None:
            self._origin = at
        low, high = value if low is None else low, value if high is None else high
        place = max(0, int((at - self._origin) / self._width))
        if self._buckets and place <= self._buckets[-1].place:
            self._buckets[-1].take(value, low, high, odd)
            return
        self._buckets.append(_Bucket(place, at, value, low, high, odd))
        while len(self._buckets) > MOST:
            self._thin()

    def columns(self, most: int = MOST) -> dict[str, list[Any]]:
        """Return the curve: ``at``, ``low``, ``high``, ``last`` and ``odd`` of each bucket, in order.

        ``most``: of so many last ones.
        """
        found = self._buckets[-most:]
        return {
            "at": [round(bucket.at, 2) for bucket in found],
            "low": [short(bucket.low) for bucket in found],
            "high": [short(bucket.high) for bucket in found],
            "last": [short(bucket.last) for bucket in found],
            "odd": [bucket.odd for bucket in found],
        }

    def _thin(self) -> None:
        self._width *= 2
        kept: list[_Bucket] = []
        for bucket in self._buckets:
            bucket.place //= 2
            if kept and kept[-1].place == bucket.place:
                kept[-1].take(bucket.last, bucket.low, bucket.high, bucket.odd)
            else:
                kept.append(bucket)
        self._buckets = kept


class _Bucket:
    __slots__ = ("at", "high", "last", "low", "odd", "place")

    def __init__(
        self, place: int, at: float, last: float | None, low: float | None, high: float | None, odd: int
    ) -> None:
        self.place, self.at, self.last, self.low, self.high, self.odd = place, at, last, low, high, odd

    def take(self, last: float | None, low: float | None, high: float | None, odd: int) -> None:
        self.last = self.last if last is None else last
        self.low = low if self.low is None else self.low if low is None else min(self.low, low)
        self.high = high if self.high is None else self.high if high is None else max(self.high, high)
        self.odd += odd
