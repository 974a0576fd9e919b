"""Unfinished: which connection is cut because a message comes on it that does not end.

ZeroMQ keeps the frames of a message until the last is there, however many they are, and counts none of them. A message
of ours has two frames, so it is known how long one can be. Which connection a message was taken from costs
microseconds to ask, so it is asked only while much has come on some connection since it was asked last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping

from ps.dataclass import dataclass
from ps.protocol.backlog import MOST_GROWN
from ps.protocol.codec import MAX_FRAME

WATCHED = 4 << 20
"""Bytes that come on a connection before it is asked whether messages are taken from it."""
LONGEST = 2 * MAX_FRAME + WATCHED
"""Bytes that come without the end of a message, at most."""
SEVERAL = 4
"""Memory may grow by so many times what came, beyond ``MOST_GROWN``: small frames take twenty times their bytes."""


MOST_UNFINISHED = max(MOST_GROWN, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
"""Bytes of messages that have not ended, on all connections, at most: a quarter of the memory."""


@dataclass(slots=True)
class _Bytes:
    received: int
    """Bytes when a message was last known to be taken from it; while it is watched, when that began."""
    memory: int | None = None
    """This process's when it began to be watched; None while it is not."""
    drains: int = 0
    """How often nothing had been left to take by then."""


class Unfinished:
    """Decides by what was received on each connection, from which a message was taken, and this process's memory."""

    def __init__(self) -> None:
        self._connections: dict[int, _Bytes] = {}

    def look(
        self,
        received: Mapping[int, int],
        heard: Collection[int],
        memory: int,
        *,
        mute: Callable[[int], bool] = lambda number: False,
        drains: int = 0,
    ) -> tuple[bool, list[int]]:
        """Return whether it is to be noted from now on who is heard, and the descriptors of connections to cut.

        ``received``: the bytes of each so far; ``heard``: from which a message was taken since the last look;
        ``mute``: whether none ever was; ``drains``: how often nothing was left to take.
        """
        known, self._connections = self._connections, {}
        for number, count in received.items():
            one = known.get(number)
            if one is None or number in heard or count < one.received:  # fewer: the number is another's by now
                one = _Bytes(count)
            elif one.memory is None and count - one.received > WATCHED:
                one = _Bytes(count, memory, drains)
            self._connections[number] = one
        late = {
            number: received[number] - one.received
            for number, one in self._connections.items()
            if one.memory is not None
        }
        return bool(late), [number for number in late if self._is_endless(number, late, memory, mute, drains)]

    def _is_endless(
        self, number: int, late: Mapping[int, int], memory: int, mute: Callable[[int], bool], drains: int
    ) -> bool:
        one, most, total = self._connections[number], late[number] == max(late.values()), sum(late.values())
        if drains > one.drains + 1 and mute(number):  # nobody's first message is so long
            return True
        grown = memory - (one.memory or 0)
        small = grown > MOST_GROWN and grown > SEVERAL * total and most
        return late[number] > LONGEST or small or (total > MOST_UNFINISHED and most)
