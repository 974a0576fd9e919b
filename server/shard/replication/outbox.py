"""Outbox: records on their way to a standby, numbered and in order, no more of them than it has room for. Pure.

In shared memory they lie in a ring that the standby has handed over, and what comes about is written there at once.
Elsewhere the ring only counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ps.dataclass import dataclass
from ps.protocol.layout import Chunk
from ps.protocol.messages import Message
from ps.server.loan import Loan
from ps.server.send import Origin, Send
from ps.xp import HostArray

_UNIT = 64

Make: TypeAlias = Callable[[int, int], Message]
"""Takes a record's number and the place of its array in the ring."""


@dataclass(slots=True, eq=False)
class RingPart:
    """A part of the ring that is taken until the record with a number is done with; ``array`` is what is there."""

    start: int
    stop: int
    array: HostArray
    number: int = 0


@dataclass(slots=True, eq=False)
class OutgoingRecord:
    """A record that was not sent: what makes it, and its array, which is in the ring already or goes there."""

    number: int
    make: Make
    array: HostArray | None
    room: RingPart | None
    chunk: Chunk | None


class Outbox:
    """Towards one standby."""

    def __init__(self, to: Origin, room: int, memory: HostArray | None) -> None:
        """``memory``: the ring, uint8, where both sides have it; else arrays travel, ``room`` bytes at a time."""
        self.to = to
        self.last = 0
        """The number of the last record that there is."""
        self.sent = 0
        self.received = 0
        self.applied = 0
        self._size = room if memory is None else min(room, memory.nbytes)
        self._memory = memory
        self._rooms: deque[RingPart] = deque()
        self._next = 0
        self._queue: deque[OutgoingRecord] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing waits for room, and half of that is free."""
        return not self._queue and self._taken <= self._size // 2

    @property
    def _taken(self) -> int:
        return sum(room.stop - room.start for room in self._rooms)

    def reserve(self, size: int, dtype: Any) -> RingPart | None:
        """Return room for an array of the next record, to be filled at once; None where there is none now."""
        return None if self._queue else self._reserve(size, np.dtype(dtype))

    def _reserve(self, size: int, dtype: np.dtype[Any]) -> RingPart | None:
        nbytes = size * dtype.itemsize
        whole = max(_UNIT, -(-nbytes // _UNIT) * _UNIT)
        start = self._place(whole)
        if start is None:
            return None
        memory = self._memory
        array = np.empty(size, dtype) if memory is None else memory[start : start + nbytes].view(dtype)
        room = RingPart(start, start + whole, array)
        self._rooms.append(room)
        self._next = start + whole
        return room

    def _place(self, size: int) -> int | None:
        if not self._rooms:
            return 0 if size <= self._size or self._memory is None else None
        first = self._rooms[0].start
        if self._next > first:
            if self._next + size <= self._size:
                return self._next
            return 0 if size <= first else None
        return self._next if self._next + size <= first else None

    def put(
        self, make: Make, array: HostArray | None = None, room: RingPart | None = None, chunk: Chunk | None = None
    ) -> None:
        """Add a record. An ``array`` in no ``room`` yet must not change before it is sent; ``chunk``: whose it is."""
        self.last += 1
        if room is not None:
            room.number = self.last
        self._queue.append(OutgoingRecord(self.last, make, array if room is None else room.array, room, chunk))

    def send(self) -> list[Send]:
        """Return what there is room for, to be said to the standby."""
        found = []
        while self._queue:
            entry = self._queue[0]
            if entry.array is not None and entry.room is None:
                room = self._reserve(entry.array.size, entry.array.dtype)
                if room is None:
                    break
                if self._memory is not None:
                    np.copyto(room.array, entry.array)
                    entry.array = room.array
                room.number, entry.room = entry.number, room
            self._queue.popleft()
            self.sent = entry.number
            message = entry.make(entry.number, entry.room.start if entry.room is not None else 0)
            lent = self._memory is None and entry.array is not None and entry.chunk is not None
            loan = Loan(entry.chunk, entry.array) if lent else None  # type: ignore[arg-type]
            found.append(Send(self.to, message, loan))
        return found

    def heard(self, received: int, applied: int) -> bool:
        """Take what the standby has and is done with; return whether it can be."""
        if not (self.received <= received <= self.sent and self.applied <= applied <= received):
            return False
        self.received, self.applied = received, applied
        while self._rooms and 0 < self._rooms[0].number <= applied:
            self._rooms.popleft()
        return True
