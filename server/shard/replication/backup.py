"""Backup: a standby's copy of a server's part of the model, brought up to date by that server's records. Pure.

A record counts once it has come (``take``): it is acknowledged then, and worked off later, in order. Records of one
event about one chunk count together.
"""

from __future__ import annotations

from collections import deque
from typing import Any, TypeAlias

import numpy as np

from ps.checkpoint.chunk_snapshot import CODEC, MASTER, SHADOW, SLOT, WEIGHTS
from ps.config.cut import chunk_bytes_of, cut_for_links
from ps.errors import BadMessage, ReplicaDiverged
from ps.half import SINGLE, is_half, worked_in
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    ReplicaAck,
    ReplicaArray,
    ReplicaFilled,
    ReplicaModel,
    ReplicaParticipants,
    ReplicaRecord,
    ReplicaStep,
)
from ps.server.shard.chunk import ChunkState, Participant
from ps.server.shard.compression import ALL
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.replication.records import COMBINED
from ps.server.shard.replication.tables import combined_of, put
from ps.server.shard.shadow import Shadow
from ps.xp import HostArray

Record: TypeAlias = ReplicaModel | ReplicaParticipants | ReplicaArray | ReplicaRecord | ReplicaFilled


class Backup:
    """What a standby has."""

    def __init__(self, shard: GradientShard, member: int) -> None:
        """``shard``: of the job, without a model; ``member``: the standby's id."""
        self.shard = shard
        self._member = member
        self.received = 0
        self.applied = 0
        self.filled = False
        """Whether the server answers nobody any more without this copy."""
        self._queue: deque[tuple[Record, Any]] = deque()
        self._arrays: dict[int, dict[str, HostArray]] = {}
        self._batches: dict[int, list[tuple[ReplicaRecord, HostArray | None]]] = {}
        """Chunk -> records that count only with the next."""

    @property
    def busy(self) -> bool:
        """Whether there are records to be worked off."""
        return bool(self._queue)

    @property
    def share(self) -> float:
        """The part of the chunks that is here."""
        chunks = self.shard.chunks.values()
        return sum(chunk.filled for chunk in chunks) / len(chunks) if chunks else 0.0

    @property
    def acknowledgement(self) -> ReplicaAck:
        """What the server is told of how far this is."""
        return ReplicaAck(self._member, self.received, self.applied)

    def take(self, record: Record, payload: Any) -> None:
        """Take a record; ``payload`` is bytes-like, and stays as it is until the record is worked off.

        Raises ReplicaDiverged when one before it is missing.
        """
        if record.number != self.received + 1:
            raise ReplicaDiverged(
                f"record {record.number} of server {self.shard.rank} came after {self.received}: some were lost"
            )
        self.received = record.number
        self.filled |= isinstance(record, ReplicaFilled)
        self._queue.append((record, payload))

    def demand(self, number: int) -> None:
        """Raise ReplicaDiverged unless all records up to a number have come."""
        if number > self.received:
            raise ReplicaDiverged(
                f"server {self.shard.rank} has sent {number} records, and {self.received} came: some were lost"
            )

    def work(self) -> None:
        """Work one record off. Raises ReplicaDiverged, or BadMessage for one that cannot be meant."""
        record, payload = self._queue.popleft()
        match record:
            case ReplicaModel():
                self._model(record)
            case ReplicaParticipants():
                self._participants(record)
            case ReplicaArray():
                found = self._arrays.setdefault(record.chunk, {})
                found[record.name] = np.array(_bytes_of(payload, record.nbytes))
            case ReplicaRecord():
                self._record(record, payload)
        self.applied = record.number

    def finish(self) -> GradientShard:
        """Work all off that counts, and return the shard: there will be no more records. Raises as ``work`` does."""
        while self._queue:
            self.work()
        self._batches.clear()
        return self.shard

    def _model(self, record: ReplicaModel) -> None:
        layout, mine = Layout.unpack(record.layout), self.shard.job
        cut = record.servers, record.chunk_size
        for job in (mine, cut_for_links(mine)):  # the view that says so may come later than what its server says
            if cut == (job.servers, chunk_bytes_of(job, layout.nbytes)):
                break
        else:
            raise BadMessage(f"a model for {record.servers} servers, in a job of {mine.servers}, or cut in another way")
        self.shard.job, self.shard.seeder = job, record.seeder
        if layout != self.shard.layout:
            try:
                self.shard.hold(layout)
            except MemoryError:
                raise ReplicaDiverged(
                    f"there is no memory for the share of server {self.shard.rank} in {layout.nbytes} bytes"
                ) from None

    def _participants(self, record: ReplicaParticipants) -> None:
        found = self.shard.participants
        found.clear()
        for member, rank, start, initial, fresh in record.rows:
            found[member] = Participant(member, rank, None if start < 0 else start, initial, fresh)

    def _record(self, record: ReplicaRecord, payload: Any) -> None:
        chunk = self.shard.chunks.get(record.chunk)
        if chunk is None:
            raise BadMessage(f"a record of chunk {record.chunk}, which is not of server {self.shard.rank}")
        gradient: HostArray | None = None
        if isinstance(record, ReplicaStep):
            dtype = worked_in(chunk.weights.dtype)
            if record.nbytes != chunk.chunk.size * dtype.itemsize:
                raise BadMessage(f"a gradient of {record.nbytes} bytes for chunk {record.chunk}")
            gradient = _bytes_of(payload, record.nbytes).view(dtype)
            if record.more or record.change == "combined":  # it is kept for longer than where it lies
                gradient = gradient.copy()
        batch = self._batches.setdefault(record.chunk, [])
        batch.append((record, gradient))
        if record.more:
            return
        del self._batches[record.chunk]
        if record.change == "whole":
            self._whole(chunk, record)
        closed = chunk.version
        for each, array in batch:
            self._change(chunk, each, array)
        if record.vetoed == closed and record.version == closed + 1 and ALL in chunk.shadows:
            chunk.shadows[ALL].keep(record.version)
        put(chunk, record)
        self._follow(chunk, record)

    def _change(self, chunk: ChunkState, record: ReplicaRecord, gradient: HostArray | None) -> None:
        progress = self.shard.ready
        if isinstance(record, ReplicaStep) and gradient is not None:
            if record.change == "combined":
                chunk.combined = combined_of(record, gradient)
            else:
                about = record.clock, record.used, record.scale, frozenset(record.absent), record.stale
                progress.updater.step(chunk, gradient, *about)
        elif record.change == "scaled":
            combined, chunk.combined = chunk.combined, None
            if combined is None:
                raise ReplicaDiverged(f"chunk {record.chunk} has no gradient here that waits for its scale")
            progress.updater.apply_combined(chunk, combined, record.scale)

    def _follow(self, chunk: ChunkState, record: ReplicaRecord) -> None:
        """Have what all workers have of a chunk be what its server has sent them, by compressed changes."""
        progress, shadow = self.shard.ready, chunk.shadows.get(ALL)
        if record.shadow < 0 or progress.compression is None:
            chunk.shadows.pop(ALL, None)
        elif shadow is None or shadow.version < record.shadow:
            if record.shadow != chunk.version:
                raise ReplicaDiverged(f"chunk {record.chunk}: its shadow of version {record.shadow} was not seen")
            progress.compression.bring(chunk)

    def _whole(self, chunk: ChunkState, record: ReplicaRecord) -> None:
        """Have a chunk be what came of it array by array."""
        arrays, progress = self._arrays.pop(record.chunk, {}), self.shard.ready
        size = chunk.chunk.size
        np.copyto(chunk.weights, _array(arrays, WEIGHTS, chunk.weights))
        half = is_half(chunk.weights.dtype)
        chunk.master = _array(arrays, MASTER, np.empty(size, SINGLE)) if half else None
        slots = progress.updater.optimizer(chunk.chunk).init(chunk.weights if chunk.master is None else chunk.master)
        chunk.slots = {name: _array(arrays, f"{SLOT}{name}", slot) for name, slot in slots.items()}
        chunk.filled, chunk.shadows, chunk.combined = True, {}, None
        if SHADOW in arrays and progress.compression is not None:
            fresh = progress.compression.state(chunk)
            state = {name: _array(arrays, f"{CODEC}{name}", np.asarray(array)) for name, array in fresh.items()}
            chunk.shadows[ALL] = Shadow(_array(arrays, SHADOW, chunk.weights), state, record.shadow)
        if COMBINED in arrays:
            like = np.empty(size, worked_in(chunk.weights.dtype))
            chunk.combined = combined_of(record, _array(arrays, COMBINED, like))
        chunk.updates = record.updates


def _array(arrays: dict[str, HostArray], name: str, like: HostArray) -> HostArray:
    """Return an array that came, which is to be of the size and dtype of another. Raises BadMessage."""
    found = arrays.get(name)
    if found is None or found.nbytes != like.nbytes:
        raise BadMessage(f"{name} of a chunk has {0 if found is None else found.nbytes} bytes, not {like.nbytes}")
    return found.view(like.dtype).reshape(like.shape)


def _bytes_of(payload: Any, nbytes: int) -> HostArray:
    found = np.frombuffer(payload, np.uint8)
    if found.nbytes != nbytes:
        raise BadMessage(f"a payload of {found.nbytes} bytes that is said to have {nbytes}")
    return found
