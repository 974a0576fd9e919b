"""CopyRoom: memory for copies of arrays, taken from the system by a thread of its own before it is needed.

A page that is touched for the first time costs more than to copy what goes there: of 400 MB, 260 ms of a processor
beside 80. Whoever is to copy between two steps finds it touched by then, as far as there was time.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ps.memory import keep_freed_memory
from ps.threads import give_way
from ps.xp import HostArray

LEAST = 1 << 16
"""Bytes of an array for which it pays."""
PAGE = 4096
MORE = 1 << 30
"""Bytes that are kept besides."""

Like: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]


class CopyRoom:
    """Room for one copy of each array of such shapes and dtypes, in their order.

    It is asked for where it is made, and only touched by the thread: what the C library keeps of freed memory, it keeps
    for the thread of a process that began it. So the next room has most of this one's pages.
    """

    def __init__(self, arrays: Sequence[HostArray]) -> None:
        large = [_like(array) for array in arrays if array.nbytes >= LEAST]
        self._needed = Counter(large)
        self._bare: dict[Like, list[HostArray]] = {like: [] for like in self._needed}
        self._ready: dict[Like, list[HostArray]] = {like: [] for like in self._needed}
        self._lock = threading.Lock()
        keep_freed_memory(MORE + sum(array.nbytes for array in arrays))
        with contextlib.suppress(MemoryError):  # whoever copies will see whether there is enough by then
            for like in large:
                self._bare[like].append(np.empty(*like))
        if large:
            threading.Thread(target=self._run, args=(large,), name="ps-room", daemon=True).start()

    def copy(self, array: HostArray) -> HostArray:
        """Return a copy, where there is room already or elsewhere. Raises MemoryError."""
        like = _like(array)
        with self._lock:
            rooms = self._ready.get(like) or self._bare.get(like)
            room = rooms.pop() if rooms else None
            self._needed[like] -= 1
        if room is None:
            return array.copy()
        np.copyto(room, array)
        return room

    def close(self) -> None:
        """Nobody copies any more: let go of what is left."""
        with self._lock:
            self._needed.clear()
            self._ready.clear()
            self._bare.clear()

    def _run(self, order: Sequence[Like]) -> None:
        give_way()
        for like in order:
            with self._lock:
                room = self._bare[like].pop() if self._bare.get(like) else None
            if room is None:
                continue
            room.reshape(-1).view(np.uint8)[::PAGE] = 0
            with self._lock:
                if self._needed[like] > len(self._ready.get(like, ())):
                    self._ready[like].append(room)


def _like(array: HostArray) -> Like:
    return array.shape, array.dtype
