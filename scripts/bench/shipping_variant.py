"""A plug-in of ``shipping.py``: servers say at their end what standbys cost them; with SHIP=state they are sent states.

As the product has it a standby is sent the combined gradient and takes the same step. For comparison a chunk's weights
and optimizer state are sent instead after each step, straight into the same ring, from which it copies them once.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from functools import partial
from typing import Any

import numpy as np

from ps.protocol.messages import ReplicaArray
from ps.server.shard.chunk_copy import arrays_of
from ps.server.shard.replication import backup, history, primary, records
from ps.server.shard.replication.history import ChunkChange
from ps.server.shard.replication.outbox import Outbox

STEPS_BEFORE = 5
"""Of each chunk, which are not counted."""


class Costs:
    """What a server, or a standby, has spent since the model was there and some steps were taken."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.bytes = self.steps = 0
        atexit.register(self.tell)

    def note(self, chunk: int, version: int, nbytes: int) -> None:
        """A step of a chunk, of so many bytes that travel."""
        if version > STEPS_BEFORE:
            if self.since is None:
                self.since = time.process_time()
            self.bytes += nbytes
            self.steps += chunk == 0

    def tell(self) -> None:
        """Print it."""
        if self.since is not None and self.steps > 1:
            spent = 1000 * (time.process_time() - self.since) / self.steps
            print(f"COST {spent:.2f} ms {self.bytes / 1e6 / self.steps:.2f} MB a step", file=sys.stderr, flush=True)


COSTS = Costs()
PLAIN = records.put_change


def counted(outbox: Outbox, chunk: Any, tables: Any, change: ChunkChange, *, more: bool) -> None:
    """Send a change as the product has it."""
    COSTS.note(chunk.chunk.index, chunk.version, 0 if change.array is None else change.array.nbytes)
    PLAIN(outbox, chunk, tables, change, more=more)


def as_state(outbox: Outbox, chunk: Any, tables: Any, change: ChunkChange, *, more: bool) -> None:
    """Send all of a chunk that has changed."""
    total = 0
    for name, array in arrays_of(chunk).items():
        total += array.nbytes
        room = outbox.reserve(array.size, array.dtype)
        kept = array.copy() if room is None else array
        if room is not None:
            np.copyto(room.array, array)
        outbox.put(partial(records._array, chunk.chunk.index, name, array.nbytes), kept, room, chunk.chunk)
    COSTS.note(chunk.chunk.index, chunk.version, total)
    outbox.put(partial(records._record, chunk, tables, ChunkChange("whole"), False))


def noted(self: Any, chunk: Any, gradient: Any, *about: Any) -> Any:
    """Note that a chunk has changed, and leave its gradient alone."""
    if self._holds(chunk.chunk.index):
        self._note(chunk, ChunkChange("whole"))
    return gradient


def worked(self: Any) -> None:
    """Work a record off; arrays stay in the ring until the record comes that says that they are all."""
    record, payload = self._queue[0]
    if isinstance(record, ReplicaArray) and self.filled:
        self._queue.popleft()
        self._arrays.setdefault(record.chunk, {})[record.name] = np.frombuffer(payload, np.uint8)
    else:
        WORK(self)
        if getattr(record, "change", "") in ("whole", "step") and self.filled:
            COSTS.note(record.chunk, record.version, 0)


def taken(self: Any, chunk: Any, record: Any) -> None:
    """Have a chunk be what came of it, with one copy of each array."""
    if not self.filled:
        WHOLE(self, chunk, record)
        return
    arrays = self._arrays.pop(record.chunk)
    for name, array in arrays_of(chunk).items():
        np.copyto(array.view(np.uint8), arrays[name])
    chunk.updates = record.updates


def replace(where: Any, **functions: Any) -> None:
    """Have functions of the product be others."""
    for name, function in functions.items():
        setattr(where, name, function)


WORK, WHOLE = backup.Backup.work, backup.Backup._whole
replace(backup.Backup, work=worked)
if os.environ.get("SHIP") == "state":
    replace(history.History, step=noted)
    replace(primary, put_change=as_state)
    replace(backup.Backup, _whole=taken)
else:
    replace(primary, put_change=counted)
