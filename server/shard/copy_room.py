"""CopyRoom: memory for copies of arrays, taken from the system by a thread of its own before it is needed.

A page that is touched for the first time costs more than to copy what goes there: of 400 MB, 260 ms of a processor
beside 80. Whoever is to copy between two steps finds it touched by then, as far as there was time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ps.threads import give_way
from ps.xp import HostArray

LEAST = 1 << 16
"""Bytes of an array for which it pays."""
PAGE = 4096

Like: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]


class CopyRoom:
    """Room for one copy of each array of such shapes and dtypes, in their order."""

    def __init__(self, arrays: Sequence[HostArray]) -> None:
        self._order = [_like(array) for array in arrays if array.nbytes >= LEAST]
        self._needed = Counter(self._order)
        self._ready: dict[Like, list[HostArray]] = {like: [] for like in self._needed}
        self._lock = threading.Lock()
        if self._order:
            threading.Thread(target=self._run, name="ps-room", daemon=True).start()

    def copy(self, array: HostArray) -> HostArray:
        """Return a copy, where there is room already or elsewhere. Raises MemoryError."""
        with self._lock:
            ready = self._ready.get(_like(array))
            room = ready.pop() if ready else None
            self._needed[_like(array)] -= 1
        if room is None:
            return array.copy()
        np.copyto(room, array)
        return room

    def close(self) -> None:
        """Nobody copies any more: let go of what is left."""
        with self._lock:
            self._needed.clear()
            self._ready.clear()

    def _run(self) -> None:
        give_way()
        for like in self._order:
            if not self._lacks(like):
                continue
            try:
                room = np.empty(*like)
            except MemoryError:  # whoever copies will see whether there is enough by then
                return
            room.reshape(-1).view(np.uint8)[::PAGE] = 0
            with self._lock:
                if self._needed[like] > len(self._ready.get(like, ())):
                    self._ready[like].append(room)

    def _lacks(self, like: Like) -> bool:
        with self._lock:
            return self._needed[like] > len(self._ready.get(like, ()))


def _like(array: HostArray) -> Like:
    return array.shape, array.dtype
