"""ClientWaiters: who waits for the version of a federated model that is not published yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ps.server.send import Origin
from ps.server.shard.chunk import Waiter

MOST_WAITING = 1 << 18
"""Requests for a version that is not published yet that are remembered, at most."""


class ClientWaiters:
    """Requests by member and chunk: a client asks for a chunk once at a time."""

    def __init__(self) -> None:
        self._waiters: dict[tuple[int, int], Waiter] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, chunk: int, waiter: Waiter) -> None:
        """Let a member wait for a chunk, in the place of what it has asked before."""
        self._waiters.pop((waiter.member, chunk), None)
        self._waiters[waiter.member, chunk] = waiter
        if len(self._waiters) > MOST_WAITING:  # the oldest asks again when it hears that it is unknown
            del self._waiters[next(iter(self._waiters))]

    def known(self, origin: Origin, member: int, chunks: Iterable[int]) -> set[int]:
        """Return which requests of a member are here; they are answered to ``origin`` from now on."""
        found = set()
        for index in chunks:
            waiter = self._waiters.get((member, index))
            if waiter is not None:
                waiter.origin = origin
                found.add(waiter.request)
        return found

    def take(self) -> Iterator[tuple[int, Waiter]]:
        """Take all, each with its chunk: the version is there."""
        waiters, self._waiters = self._waiters, {}
        yield from ((index, waiter) for (_, index), waiter in waiters.items())
