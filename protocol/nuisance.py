"""Nuisance: who is cut off because most of what it says is wrong, though each message is small and is answered."""

from __future__ import annotations

BUDGET = 50_000
"""What a connection may spend at once."""
PER_SECOND = 1000
"""What it may spend for ever."""
MALFORMED = 250
"""What a message costs that breaks the protocol, or cannot be meant: nobody who is honest says many."""
REFUSED = 1
"""What one costs that is refused: a window full may come from a worker that does not yet know that it is out."""
MOST_PEERS = 1000
"""Connections of which something is remembered."""


class Nuisance:
    """What each connection has left to spend, by its name."""

    def __init__(self) -> None:
        self._spent: dict[bytes, tuple[float, float]] = {}
        """What was spent, as of when; who has been spared longest comes first."""

    def is_too_much(self, peer: bytes, cost: int, now: float) -> bool:
        """Note that a connection has said something wrong; return whether it is cut."""
        spent, at = self._spent.pop(peer, (0.0, now))
        spent = max(0.0, spent - (now - at) * PER_SECOND) + cost
        if len(self._spent) >= MOST_PEERS:
            del self._spent[next(iter(self._spent))]
        self._spent[peer] = spent, now
        return spent > BUDGET
