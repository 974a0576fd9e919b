"""EventQueue: what happens when, in virtual time. What was planned first of the things at one moment happens first."""

from __future__ import annotations

import heapq
from typing import NamedTuple


class Event(NamedTuple):
    """``what`` happens to a client at ``time``, if it is still at what ``ticket`` names; ``number`` breaks ties."""

    time: float
    number: int
    what: str
    client: int
    ticket: int
    chunk: int


class EventQueue:
    """Events in the order in which they happen."""

    def __init__(self) -> None:
        self._heap: list[Event] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, time: float, what: str, client: int = -1, ticket: int = 0, chunk: int = -1) -> None:
        """Plan an event."""
        self._number += 1
        heapq.heappush(self._heap, Event(time, self._number, what, client, ticket, chunk))

    def next(self) -> Event:
        """Take the event that happens next."""
        return heapq.heappop(self._heap)
