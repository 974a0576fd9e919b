"""Resting: clients that gave a task back, which are asked again later, so that nobody is asked in a circle."""

from __future__ import annotations

FIRST, LONGEST = 0.5, 30.0
"""Seconds for which a client rests after it has given a task back, doubled with each one more of the same round."""
MOST_DOUBLED = 6
"""Times that a rest is doubled, at most."""


class Resting:
    """How often each client has given a task of the round under way back, and until when it rests for that."""

    def __init__(self) -> None:
        self._clients: dict[int, tuple[int, float]] = {}

    def declined(self, client: int, now: float) -> None:
        """A client has given a task back."""
        count, _ = self._clients.get(client, (0, now))
        rest = min(LONGEST, FIRST * float(1 << min(count, MOST_DOUBLED)))
        self._clients[client] = count + 1, now + rest

    def left(self, client: int, now: float) -> float:
        """Return for how many seconds more a client is not to be asked."""
        return max(0.0, self._clients.get(client, (0, now))[1] - now)

    def clear(self) -> None:
        """The round is over: all may be asked for the next."""
        self._clients.clear()
