"""Unread: what is on its way to each peer and kept until it is read, so that who never reads pins not too much."""

from __future__ import annotations

from collections import deque
from typing import Protocol

MOST_PEERS = 1000
"""Peers of which something is known, before those are forgotten for whom nothing is kept any more."""


class _Tracker(Protocol):
    @property
    def done(self) -> bool: ...


class Unread:
    """Bytes lent to each peer that have not left yet. Those that have are taken off when more is to go to the peer."""

    def __init__(self) -> None:
        self._lent: dict[bytes, deque[tuple[_Tracker, int]]] = {}
        self._bytes: dict[bytes, int] = {}

    def left(self, peer: bytes) -> int:
        """Return how many bytes have not left for a peer."""
        lent = self._lent.get(peer)
        while lent and lent[0][0].done:
            self._bytes[peer] -= lent.popleft()[1]
        return self._bytes.get(peer, 0)

    def lend(self, peer: bytes, tracker: _Tracker, nbytes: int) -> None:
        """Note that so many bytes are on their way to a peer."""
        if len(self._lent) >= MOST_PEERS and peer not in self._lent:
            for other in [other for other in self._lent if not self.left(other)]:
                del self._lent[other], self._bytes[other]
        self._lent.setdefault(peer, deque()).append((tracker, nbytes))
        self._bytes[peer] = self._bytes.get(peer, 0) + nbytes
