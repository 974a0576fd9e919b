"""Pace: how far a job is, how fast it gets on, and so how long it still takes. Pure."""

from __future__ import annotations

from collections import deque

WINDOW = 60.0
"""Seconds by which the pace is judged: what was long ago says little."""
LEAST = 2.0
"""Seconds that have to be seen before anything is said of those to come."""


class Pace:
    """What was done when, since not too long."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def note(self, now: float, done: float) -> None:
        """Take how much is done. Less than before means that something has begun anew."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    def speed(self) -> float | None:
        """Return how much is done in a second; None when that cannot be said."""
        if not self._seen:
            return None
        (began, first), (now, done) = self._seen[0], self._seen[-1]
        return (done - first) / (now - began) if now - began >= LEAST and done > first else None

    def left(self, total: float) -> float | None:
        """Return the seconds until so much is done, if it goes on like this; None when that cannot be said."""
        speed, done = self.speed(), self._seen[-1][1] if self._seen else 0.0
        return None if speed is None or done > total else (total - done) / speed


def with_left(where: str, seconds: float | None) -> str:
    """Return where a job is, and how long it still takes if that can be said."""
    return where if seconds is None else f"{where} · {format_left(seconds)}"


def with_speed(where: str, speed: float | None) -> str:
    """Return where a job is, and how many steps it does in a second, or a minute, if that can be said."""
    if speed is None:
        return where
    return f"{where} · {speed:.3g} steps/s" if speed >= 0.1 else f"{where} · {60 * speed:.2g} steps/min"


def format_left(seconds: float) -> str:
    """Return a time to come for people: 42 s left, 3 min left, 2 h 05 min left."""
    if seconds < 90:
        return f"{seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"{minutes} min left" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min left"
