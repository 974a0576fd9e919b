"""Buffers in memory that two workers of one host share: one lays into them what it sends, the other works with that
where it lies, and changes it if it likes, until nothing of it is used any more.

A buffer begins with a word, which the receiver writes: 0 until it has mapped the buffer, then the last use of it that
is over. What is to be sent goes the other way while no buffer is free for it: so nobody ever waits for one, and a
receiver that cannot map one, or keeps what it was given, costs time and nothing else.
"""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Callable

import numpy as np

from ps.dataclass import dataclass
from ps.errors import BadMessage, Unshared
from ps.protocol.segment import PAGE, Segment, pages
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

HEAD = 64
"""Bytes before what is laid into a buffer."""
LOOSE = 4
"""Times the bytes that are wanted which a buffer has at most, if it is no page: others are for what is larger."""
MOST = 64
"""Buffers at once."""
MOST_BYTES = 1 << 30
"""Bytes of all of them at once."""

Hand = Callable[[int, int, Segment | None], bool]
"""Hands a buffer of a number and size over, or says (None) that it is not used any more; whether that went."""


@dataclass(frozen=True, slots=True)
class LentBuffer:
    """A buffer for one use: its number, the use's, and the memory."""

    number: int
    use: int
    memory: HostArray


class _Buffer:
    """Memory with a word at its beginning."""

    __slots__ = ("memory", "number", "size", "use", "word")

    def __init__(self, number: int, memory: HostArray) -> None:
        self.number, self.size = number, memory.size - HEAD
        self.word = memory[:8].view(np.uint64)
        self.memory = memory[HEAD:]
        self.use = 1
        """The last use; the first is the receiver's mapping of it."""

    @property
    def is_mapped(self) -> bool:
        return bool(self.word[0])

    @property
    def is_free(self) -> bool:
        return int(self.word[0]) == self.use


class OfferedBuffers:
    """Those of a sender, for one receiver."""

    def __init__(self, peer: str, hand: Hand, *, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        """``peer``: the receiver, for people."""
        self._peer = peer
        self._hand = hand
        self._most, self._most_bytes = most, most_bytes
        self._all: list[_Buffer] = []
        self._numbers = 0

    @property
    def nbytes(self) -> int:
        """The memory of all."""
        return sum(each.size + HEAD for each in self._all)

    def take(self, nbytes: int) -> LentBuffer | None:
        """Return memory for so many bytes; None while there is none."""
        most = max(LOOSE * nbytes, PAGE)
        fitting = [each for each in self._all if nbytes <= each.size <= most]
        found = min((each for each in fitting if each.is_free), key=lambda each: each.size, default=None)
        if found is None:
            if all(each.is_mapped for each in fitting):  # else there will be one soon
                self._offer(nbytes)
            return None
        found.use += 1
        return LentBuffer(found.number, found.use, found.memory[:nbytes])

    def _offer(self, nbytes: int) -> None:
        size = pages(HEAD + nbytes)
        while len(self._all) >= self._most or self.nbytes + size > self._most_bytes:
            idle = next((each for each in self._all if each.is_free), None)
            if idle is None:
                return
            self._all.remove(idle)
            self._hand(idle.number, 0, None)
        try:
            segment = Segment.create(size)
            segment.reserve(0, size)
            memory = segment.array(0, size)
        except Unshared as error:
            log.warning(
                "%s: %s. What the %d bytes shared with it have no room for travels", self._peer, error, self.nbytes
            )
            self._most_bytes = self.nbytes
            return
        self._numbers += 1
        if self._hand(self._numbers, size, segment):
            self._all.append(_Buffer(self._numbers, memory))


class AdoptedBuffers:
    """Those of a receiver, from one sender."""

    def __init__(self) -> None:
        self._all: dict[int, _Buffer] = {}

    def adopt(self, number: int, size: int, segment: Segment) -> None:
        """Map a buffer, and say so in it. Raises Unshared, or BadMessage for what is no buffer."""
        if size <= HEAD or len(self._all) >= 2 * MOST:
            raise BadMessage(f"a buffer of {size} bytes, beside {len(self._all)}")
        self._all[number] = buffer = _Buffer(number, segment.array(0, size))
        _release(buffer.word, buffer.use)

    def forget(self, number: int) -> None:
        """Map it no longer; what still lies there stays as long as it is used."""
        self._all.pop(number, None)

    def receive(self, number: int, use: int, nbytes: int) -> HostArray:
        """Return what was laid into a buffer; with the last view of it this use is over. Raises BadMessage."""
        buffer = self._all.get(number)
        if buffer is None or nbytes > buffer.size or use <= buffer.use:
            raise BadMessage(f"{nbytes} bytes in buffer {number}, which is not shared, or smaller, or was used before")
        buffer.use = use
        held = (ctypes.c_uint8 * nbytes).from_buffer(buffer.memory.data)
        weakref.finalize(held, _release, buffer.word, use).atexit = False
        memory: HostArray = np.frombuffer(memoryview(held), np.uint8)
        return memory


def _release(word: HostArray, use: int) -> None:
    word[0] = use
