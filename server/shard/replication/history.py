"""History: how the weights of chunks have changed within one event, with the gradients that changed them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ps.dataclass import dataclass
from ps.half import worked_in
from ps.optim import Reader, WeightedSum
from ps.protocol.messages.rate import UNSAID, Rate
from ps.protocol.messages.words import ReplicaChange
from ps.server.shard.chunk import ChunkState
from ps.server.shard.replication.outbox import Outbox, RingPart
from ps.xp import HostArray


@dataclass(slots=True, eq=False)
class ChunkChange:
    """One change. ``array`` is the combined gradient, in ``room`` if it is on its way already."""

    change: ReplicaChange
    array: HostArray | None = None
    room: RingPart | None = None
    clock: int = 0
    rate: Rate = UNSAID
    scale: float = 1.0
    absent: tuple[int, ...] = ()
    stale: int = 1


class History:
    """An updater's ``ChangeRecorder``: has each gradient written, while it is applied, where the standby finds it."""

    def __init__(self, outbox: Outbox, holds: Callable[[int], bool]) -> None:
        """``holds``: whether the standby has a chunk; of others nothing is noted."""
        self._outbox = outbox
        self._holds = holds
        self._changes: dict[int, list[ChunkChange]] = {}

    def take(self, index: int) -> list[ChunkChange]:
        """Return what has changed a chunk since the last call."""
        return self._changes.pop(index, [])

    def step(
        self,
        chunk: ChunkState,
        gradient: HostArray | Reader,
        clock: int,
        rate: Rate,
        scale: float,
        absent: frozenset[int],
        stale: int,
    ) -> HostArray | Reader:
        if not self._holds(chunk.chunk.index):
            return gradient
        home, room = self._home(chunk)
        about = clock, rate, float(scale), tuple(sorted(absent)), stale
        self._note(chunk, ChunkChange("step", home, room, *about))
        return _copying(gradient, home)

    def combined(self, chunk: ChunkState, gradient: HostArray) -> None:
        if self._holds(chunk.chunk.index):  # it stays as it is until it is applied
            self._note(chunk, ChunkChange("combined", gradient))

    def scaled(self, chunk: ChunkState, scale: float) -> None:
        if self._holds(chunk.chunk.index):
            self._note(chunk, ChunkChange("scaled", scale=float(scale)))

    def _note(self, chunk: ChunkState, change: ChunkChange) -> None:
        self._changes.setdefault(chunk.chunk.index, []).append(change)

    def _home(self, chunk: ChunkState) -> tuple[HostArray, RingPart | None]:
        size, dtype = chunk.chunk.size, worked_in(chunk.weights.dtype)
        room = self._outbox.reserve(size, dtype)
        return (np.empty(size, dtype), None) if room is None else (room.array, room)


def _copying(gradient: HostArray | Reader, home: HostArray) -> Reader:
    """Return what reads a gradient block by block, and leaves it in ``home``: the blocks are in cache meanwhile."""

    def read(lo: int, hi: int, out: HostArray) -> HostArray:
        block = home[lo:hi]
        if isinstance(gradient, WeightedSum):
            gradient.write(lo, hi, block, 1.0)
        else:
            part = gradient(lo, hi, block) if callable(gradient) else gradient[lo:hi]
            if part is not block:
                np.copyto(block, part)
        return block

    return read
