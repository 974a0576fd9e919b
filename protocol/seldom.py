"""Seldom: how often a line may be written that a peer can cause as often as it likes."""

from __future__ import annotations

import logging

BURST = 20
"""Lines that may come at once."""
EVERY = 10.0
"""Seconds for one more line after that."""


class Seldom:
    """Lets through a burst of lines, then one now and then, and counts those in between."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = 0.0
        self._untold = 0

    def warn(self, log: logging.Logger, now: float, text: str, *about: object) -> None:
        """Write a warning, if one may be written now, with how many others were left out."""
        if (more := self.due(now)) is not None:
            log.warning("%s%s", text % about, f" (and {more} others)" if more else "")

    def due(self, now: float) -> int | None:
        """Return how many lines were left out since the last, if one may be written now."""
        self._left = min(float(BURST), self._left + max(0.0, now - self._at) / EVERY)
        self._at = now
        if self._left < 1:
            self._untold += 1
            return None
        self._left -= 1
        untold, self._untold = self._untold, 0
        return untold
