"""Records: how a chunk, or what has changed of it, is said to a standby."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ps.protocol.messages import ReplicaArray, ReplicaRecord, ReplicaStep
from ps.server.shard.chunk import ChunkState
from ps.server.shard.chunk_copy import arrays_of
from ps.server.shard.replication.history import ChunkChange
from ps.server.shard.replication.outbox import Outbox
from ps.server.shard.replication.tables import Tables

COMBINED = "combined"
"""The array of a combined gradient that waits for its scale."""


def put_nothing(outbox: Outbox, chunk: ChunkState, tables: Tables) -> None:
    """Say what is known of a chunk, whose arrays are what they were."""
    outbox.put(partial(_record, chunk, tables, ChunkChange("none", **_waiting(chunk)), False))


def put_change(outbox: Outbox, chunk: ChunkState, tables: Tables, change: ChunkChange, *, more: bool) -> None:
    """Say how a chunk has changed."""
    if change.change == "combined":  # by now it is known what counts for it
        for name, value in _waiting(chunk).items():
            setattr(change, name, value)
    if change.array is None:
        outbox.put(partial(_record, chunk, tables, change, more))
    else:
        made = partial(_step, chunk, tables, change, more, change.array.nbytes)
        outbox.put(made, change.array, change.room, chunk.chunk)


def put_whole(outbox: Outbox, chunk: ChunkState) -> None:
    """Say all of a chunk as it is; nothing but what is known of it where it has no values yet."""
    tables = Tables.of(chunk)
    arrays = arrays_of(chunk) if chunk.filled else {}
    if chunk.filled and chunk.combined is not None and chunk.combined.gradient is not None:
        arrays[COMBINED] = chunk.combined.gradient
    for name, array in arrays.items():
        flat = array.reshape(-1).view(np.uint8).copy()
        outbox.put(partial(_array, chunk.chunk.index, name, flat.nbytes), flat, None, chunk.chunk)
    about = ChunkChange("whole" if chunk.filled else "none", **_waiting(chunk))
    outbox.put(partial(_record, chunk, tables, about, False))


def _waiting(chunk: ChunkState) -> dict[str, Any]:
    """Return what is to be known of a combined gradient that waits, if one does."""
    combined = chunk.combined
    return {} if combined is None else {"rate": combined.rate, "absent": tuple(sorted(combined.absent))}


def _array(index: int, name: str, nbytes: int, number: int, place: int) -> ReplicaArray:
    return ReplicaArray(number, index, name, nbytes, place)


def _record(
    chunk: ChunkState, tables: Tables, change: ChunkChange, more: bool, number: int, place: int
) -> ReplicaRecord:
    return ReplicaRecord(number=number, **tables.said(chunk, change.change, more=more), **_gradient(change))


def _step(
    chunk: ChunkState, tables: Tables, change: ChunkChange, more: bool, nbytes: int, number: int, place: int
) -> ReplicaStep:
    lies: dict[str, Any] = {"clock": change.clock, "stale": change.stale, "nbytes": nbytes, "place": place}
    return ReplicaStep(number=number, **tables.said(chunk, change.change, more=more), **_gradient(change), **lies)


def _gradient(change: ChunkChange) -> dict[str, Any]:
    return {"scale": change.scale, "used": change.rate, "absent": change.absent}
