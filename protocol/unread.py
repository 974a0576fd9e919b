"""Unread: what is on its way to each peer and kept until it is read, so that who never reads pins not too much."""

from __future__ import annotations

from collections import deque
from typing import Protocol

MOST_UNREAD = 256 << 20
"""Bytes of payloads that are kept for a peer which does not read them, at most, unless a window is larger."""
MOST_PEERS = 1000
"""Peers of which something is known, before those are forgotten for whom nothing is kept any more."""


class _Tracker(Protocol):
    @property
    def done(self) -> bool: ...


class Unread:
    """Bytes lent to each peer that have not left yet. Those that have are taken off when more is to go to the peer."""

    def __init__(self) -> None:
        self.total = 0
        """Bytes of memory that are lent to all, as of the last time that each was asked after."""
        self._lent: dict[bytes, deque[tuple[_Tracker, int, int]]] = {}
        """Tracker, bytes, and those of them that nobody else was lent before."""
        self._bytes: dict[bytes, int] = {}

    def left(self, peer: bytes) -> int:
        """Return how many bytes have not left for a peer."""
        lent = self._lent.get(peer)
        while lent and lent[0][0].done:
            _, nbytes, own = lent.popleft()
            self._bytes[peer] -= nbytes
            self.total -= own
        return self._bytes.get(peer, 0)

    def lend(self, peer: bytes, tracker: _Tracker, nbytes: int, *, again: bool = False) -> None:
        """Note that so many bytes are on their way to a peer; ``again``: another was just lent the same."""
        if len(self._lent) >= MOST_PEERS and peer not in self._lent:
            self.sweep()
        own = 0 if again else nbytes
        self._lent.setdefault(peer, deque()).append((tracker, nbytes, own))
        self._bytes[peer] = self._bytes.get(peer, 0) + nbytes
        self.total += own

    def sweep(self) -> None:
        """Forget those for whom nothing is kept any more."""
        for other in [other for other in self._lent if not self.left(other)]:
            del self._lent[other], self._bytes[other]
