"""Tables: what a server knows of a chunk beside its arrays, as its standby is told and takes it.

Contributions that wait to be applied are not among it: whoever has sent them has no answer yet, and sends them again.
"""

from __future__ import annotations

import zlib
from dataclasses import fields
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.errors import ReplicaDiverged
from ps.protocol.messages import ReplicaRecord
from ps.protocol.messages.rate import Rate
from ps.protocol.messages.words import ReplicaChange
from ps.server.shard.chunk import ChunkState, Combined
from ps.server.shard.compression import ALL

CHECKED = 64
"""A chunk's weights are compared with the standby's at every so many of its versions."""

_Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """All of it at one moment, but for ``reached``, which also counts what waits to be applied."""

    version: int
    updates: int
    vetoed: int
    rate: Rate
    done: _Pairs
    gone: _Pairs
    holds: _Pairs
    missed: _Pairs
    norms: tuple[tuple[int, float], ...]
    combined: int
    scalers: tuple[int, ...]
    shadow: int

    @staticmethod
    def of(chunk: ChunkState) -> Tables:
        """Return what there is to be said of a chunk now."""
        pending, combined, shadow = chunk.pending, chunk.combined, chunk.shadows.get(ALL)
        done = ((m, clocks if (c := pending.get(m)) is None else c.clock) for m, clocks in chunk.done.items())
        return Tables(
            chunk.version,
            chunk.updates,
            -1 if chunk.vetoed is None or chunk.vetoed >= chunk.version else chunk.vetoed,
            chunk.rate,
            tuple(done),
            tuple(chunk.gone.items()),
            tuple(chunk.holds.items()),
            tuple(chunk.absences.missed.items()),
            () if chunk.squares is None else (chunk.squares,),
            -1 if combined is None else combined.clock,
            () if combined is None else tuple(combined.scalers),
            -1 if shadow is None else shadow.version,
        )

    def said(self, chunk: ChunkState, change: ReplicaChange, *, more: bool) -> dict[str, Any]:
        """Return the fields of a record of a change: all of it, but for what it says of a gradient."""
        current = chunk.version == self.version and not chunk.combined
        checked = current and change in ("step", "scaled") and not more and not self.version % CHECKED
        found = {name: getattr(self, name) for name in _NAMES}
        about = {"change": change, "chunk": chunk.chunk.index, "more": more, "reached": chunk.reached}
        return found | about | {"checksum": checksum(chunk) if checked else -1}


_NAMES = tuple(field.name for field in fields(Tables))


def checksum(chunk: ChunkState) -> int:
    """Return the CRC-32 of a chunk's weights, and of the master that they are a copy of, where there is one."""
    whole = chunk.weights if chunk.master is None else chunk.master
    return zlib.crc32(whole.view(np.uint8).data)


def put(chunk: ChunkState, record: ReplicaRecord) -> None:
    """Have a chunk be as a record says, whose arrays are. Raises ReplicaDiverged if they cannot be."""
    index = chunk.chunk.index
    if record.change != "whole" and chunk.updates != record.updates:
        raise ReplicaDiverged(f"chunk {index} has had {chunk.updates} updates here, and {record.updates} there")
    chunk.version, chunk.updates, chunk.reached = record.version, record.updates, record.reached
    chunk.vetoed, chunk.rate = None if record.vetoed < 0 else record.vetoed, record.rate
    chunk.done, chunk.gone, chunk.holds = dict(record.done), dict(record.gone), dict(record.holds)
    chunk.absences.missed = dict(record.missed)
    chunk.squares = record.norms[0] if record.norms else None
    if record.combined < 0:
        chunk.combined = None
    elif chunk.combined is not None:
        chunk.combined.scalers = set(record.scalers)
    else:
        chunk.combined = combined_of(record, None)
    if record.checksum >= 0 and (found := checksum(chunk)) != record.checksum:
        raise ReplicaDiverged(
            f"chunk {index} at version {record.version} is not what its server has: {found:08x} here, "
            f"{record.checksum:08x} there"
        )


def combined_of(record: ReplicaRecord, gradient: Any) -> Combined:
    """Return a combined gradient, None where all have skipped, that waits for its scale as a record says."""
    squares = dict(record.norms).get(record.combined, 0.0)
    absent = frozenset(record.absent)
    return Combined(record.combined, gradient, squares, set(record.scalers), record.used, absent)
