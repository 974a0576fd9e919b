"""StatusDesk: how the job is, for whoever asks: one picture for all of them, written once."""

from __future__ import annotations

import time
from collections.abc import Callable

from ps.protocol.codec import numbered

FRESH = 0.1
"""Seconds for which a picture that was made is given to others who ask."""
SHARE = 20
"""It is given for so many times as long as it took to make: however many ask, that is a twentieth of the time."""
LONGEST = 2.0
"""Seconds for which it is given at most."""


class StatusDesk:
    """Keeps the last picture as it travels."""

    def __init__(self, make: Callable[[float], bytes | None], clock: Callable[[], float] = time.monotonic) -> None:
        """``make`` returns the answer to request 0 as of a time; None where it cannot be written."""
        self._make, self._clock = make, clock
        self._written: bytes | None = None
        self._until = float("-inf")
        """Until when it is given."""

    def answer(self, request: int) -> bytes | None:
        """Return the answer to one who asks; None where there is none."""
        now = self._clock()
        if now >= self._until:
            self._written = self._make(now)
            done = self._clock()
            self._until = done + min(max(FRESH, SHARE * (done - now)), LONGEST)
        return None if self._written is None else numbered(self._written, request)
