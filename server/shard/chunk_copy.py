"""A chunk's state as one thing, and back: copied for a checkpoint, and put in the place of first values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ps.checkpoint.chunk_snapshot import CODEC, MASTER, SHADOW, SLOT, WEIGHTS, ChunkSnapshot
from ps.compress import Downlink
from ps.config.job import JobConfig
from ps.errors import CheckpointError
from ps.server.shard.chunk import ChunkState, Participant
from ps.server.shard.compression import ALL
from ps.server.shard.shadow import Shadow
from ps.xp import Array, HostArray


def arrays_of(chunk: ChunkState) -> dict[str, HostArray]:
    """Return the arrays of a chunk by name, the chunk's own; of shadows that which all workers share."""
    arrays = {WEIGHTS: chunk.weights}
    if chunk.master is not None:
        arrays[MASTER] = chunk.master
    arrays.update({f"{SLOT}{name}": slot for name, slot in chunk.slots.items()})
    shadow = chunk.shadows.get(ALL)
    if shadow is not None:
        arrays[SHADOW] = shadow.weights
        arrays.update({f"{CODEC}{name}": np.ascontiguousarray(array) for name, array in shadow.state.items()})
    return arrays


def copied(
    chunk: ChunkState, participants: Mapping[int, Participant], copy: Callable[[HostArray], HostArray] = np.copy
) -> ChunkSnapshot:
    """Return a copy of a chunk as its version has it, by ``copy`` of each array. Raises MemoryError."""
    shadow = chunk.shadows.get(ALL)
    return ChunkSnapshot(
        chunk.chunk,
        chunk.version,
        chunk.updates,
        chunk.reached,
        dict(chunk.absences.missed),
        chunk.rate,
        _done(chunk, participants),
        -1 if shadow is None else shadow.version,
        {name: copy(array) for name, array in arrays_of(chunk).items()},
        chunk.examples,
    )


def _done(chunk: ChunkState, participants: Mapping[int, Participant]) -> dict[int, int]:
    """Return by rank how many of each worker's clocks are in the weights: what waits to be applied is not."""
    found = dict(chunk.gone)
    for member, clocks in chunk.done.items():
        if (participant := participants.get(member)) is not None:
            waiting = chunk.pending.get(member)
            found[participant.rank] = clocks if waiting is None else waiting.clock
    return found


def put(chunk: ChunkState, snapshot: ChunkSnapshot, job: JobConfig) -> None:
    """Have a chunk that was filled with first values go on as a snapshot has it. Raises CheckpointError."""
    arrays = snapshot.arrays
    chunk.own()
    _copy(arrays, WEIGHTS, chunk.weights)
    if chunk.master is not None:
        _copy(arrays, MASTER, chunk.master)
    for name, slot in chunk.slots.items():
        if f"{SLOT}{name}" in arrays:  # else it is another optimizer's by now, and begins anew
            _copy(arrays, f"{SLOT}{name}", slot)
    if any(f"{SLOT}{name}" in arrays for name in chunk.slots) or not chunk.slots:
        chunk.updates = snapshot.updates
        chunk.absences.missed = dict(snapshot.missed)
    chunk.version, chunk.reached, chunk.rate = snapshot.version, snapshot.reached, snapshot.rate
    chunk.gone, chunk.examples = dict(snapshot.done), snapshot.examples
    if job.compress != "none" and job.lockstep and SHADOW in arrays:
        downlink, weights = Downlink(job.specs.compress), arrays[SHADOW]
        fresh = downlink.init(weights)
        state = {name: _fitting(arrays.get(f"{CODEC}{name}"), array) for name, array in fresh.items()}
        chunk.shadows[ALL] = Shadow(weights, state, snapshot.shadow)


def _fitting(found: HostArray | None, fresh: Array) -> Array:
    """Return what was kept of a codec, or, where that was of another chunk, what it begins with."""
    fits = found is not None and (found.shape, found.dtype) == (fresh.shape, fresh.dtype)
    return found if fits else fresh


def _copy(arrays: Mapping[str, HostArray], kind: str, into: HostArray) -> None:
    found = arrays.get(kind)
    if found is None or found.shape != into.shape or found.dtype != into.dtype:
        had = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
        wanted = f"{into.dtype}{list(into.shape)}"
        raise CheckpointError(f"the checkpoint has {had} for the {kind} of a chunk, which are {wanted}")
    np.copyto(into, found)
