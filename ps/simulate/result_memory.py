"""ResultMemory: places in which a process of the simulation leaves its results, to be read where they lie.

Through a socket the kernel copies a result twice, and a thread has to wait for it: of a small model that takes a
quarter as long as its training. The last place that became free is the next one to be used, while it is in cache.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence

import numpy as np

from ps.simulate.arrays import nameless_file
from ps.xp import HostArray

_ALIGN = 64


def aligned(nbytes: int) -> int:
    """Return how many bytes an array of so many takes in a place."""
    return -(-nbytes // _ALIGN) * _ALIGN


class ResultMemory:
    """The reader's side: hands out places, and takes each back when nobody has an array of it any more."""

    def __init__(self, places: int, nbytes: int) -> None:
        """``places`` of ``nbytes`` each, of which the system gives what is used. OSError when there is no memory."""
        self.nbytes = max(_ALIGN, aligned(nbytes))
        self._fd = nameless_file()
        try:
            os.ftruncate(self._fd, places * self.nbytes)
            self._memory = memoryview(mmap.mmap(self._fd, places * self.nbytes))
        except OSError:
            self.close()
            raise
        self._free = list(reversed(range(places)))
        self._read: dict[int, weakref.ref[HostArray]] = {}

    @property
    def fd(self) -> int:
        """The file, for the process that writes."""
        return self._fd

    def close(self) -> None:
        """Close the file; what was read stays."""
        os.close(self._fd)

    def take(self) -> int:
        """Return a place to be written; -1 when all are in use."""
        return self._free.pop() if self._free else -1

    def give_back(self, place: int) -> None:
        """A place that was taken is not needed."""
        if place >= 0:
            self._free.append(place)

    def read(self, place: int, sizes: Sequence[int]) -> tuple[HostArray, ...]:
        """Return the arrays (uint8, of so many bytes each) that were written to a place.

        They stay as they are as long as anybody has one of them, or a view of one.
        """
        at = place * self.nbytes
        whole = np.frombuffer(self._memory[at : at + self.nbytes], np.uint8)

        def over(_: object, place: int = place) -> None:
            del self._read[place]
            self._free.append(place)

        self._read[place] = weakref.ref(whole, over)
        arrays, at = [], 0
        for size in sizes:
            arrays.append(whole[at : at + size])
            at += aligned(size)
        return tuple(arrays)


class ResultPlaces:
    """The writer's side."""

    def __init__(self, fd: int, nbytes: int) -> None:
        """``nbytes``: of each place, as the reader has it."""
        self._nbytes = nbytes
        size = os.fstat(fd).st_size
        self._memory = np.frombuffer(mmap.mmap(fd, size), np.uint8) if size else np.empty(0, np.uint8)

    def put(self, place: int, arrays: Sequence[HostArray]) -> bool:
        """Write arrays (uint8) to a place; return whether they fit, and whether there is one."""
        if place < 0 or sum(aligned(array.nbytes) for array in arrays) > self._nbytes:
            return False
        at = place * self._nbytes
        for array in arrays:
            self._memory[at : at + array.nbytes] = array
            at += aligned(array.nbytes)
        return True
