"""First values: what both kinds of shard demand of the model that a worker brings, and of the chunks it speaks of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ps.config.cut import chunk_bytes_of
from ps.config.job import JobConfig
from ps.errors import BadMessage, ConfigError
from ps.half import HALVES, SINGLE, is_half
from ps.optim import Optimizer
from ps.optim.absences import Absences
from ps.optim.group import optimizer_of
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Error, Init
from ps.server.shard.chunk import ChunkState
from ps.spec import Spec
from ps.xp import HostArray


def layout_of(message: Init, job: JobConfig) -> Layout:
    """Return the layout that a worker announces. Raises BadMessage unless it is cut as the job says."""
    layout = Layout.unpack(message.layout)
    chunk_bytes = chunk_bytes_of(job, layout.nbytes)
    if (message.servers, message.chunk_size) != (job.servers, chunk_bytes):
        ours = f"{job.servers} servers and chunks of {chunk_bytes} bytes"
        raise BadMessage(f"Init for {message.servers} servers and chunks of {message.chunk_size} bytes, not {ours}")
    demand_noisable(layout, job)
    return layout


def check_groups(layout: Layout, spec: Spec[Optimizer]) -> None:
    """Raise BadMessage for a group of tensors with numbers that the job's optimizer does not take."""
    try:
        for tensor in layout.tensors:
            optimizer_of(spec, tensor.group)
    except ConfigError as error:
        raise BadMessage(str(error)) from None


def demand_full_precision(layout: Layout, where: str) -> None:
    """Raise BadMessage for a tensor of half precision where there can be none."""
    for tensor in layout.tensors:
        if tensor.dtype in HALVES:
            raise BadMessage(f"{tensor} cannot be trained with {where}")


def demand_noisable(layout: Layout, job: JobConfig) -> None:
    """Raise BadMessage for a tensor to which no noise can be added, where differential privacy wants all to have it."""
    for tensor in layout.tensors if job.dp else ():
        if tensor.kind not in ("trainable", "buffer"):
            raise BadMessage(
                f"{tensor} is added up exactly, and --dp {job.dp} needs everything clipped and with noise: "
                f"let it be a buffer, or leave it out of the model"
            )


def cut_for(rank: int, layout: Layout, job: JobConfig) -> list[Chunk]:
    """Return the chunks that are a server's."""
    return [chunk for chunk in layout.cut(job) if chunk.server == rank]


def room_for(chunk: Chunk, layout: Layout, memory: HostArray | None) -> ChunkState:
    """Return a chunk without values, in the ``memory`` that workers read if there is such. Raises MemoryError."""
    absences = Absences(layout.spans(chunk))
    if memory is None:
        return ChunkState(chunk, np.zeros(chunk.size, chunk.dtype), {}, absences=absences)
    place = memory[chunk.offset : chunk.offset + chunk.nbytes].view(chunk.dtype)
    return ChunkState(chunk, place, {}, shown=True, absences=absences)


def show(chunks: Mapping[int, ChunkState], memory: HostArray) -> None:
    """Have these chunks' weights be in memory that workers read, as they are."""
    for chunk in chunks.values():
        lo, hi = chunk.chunk.region
        place = memory[lo:hi].view(chunk.chunk.dtype)
        np.copyto(place, chunk.weights)
        chunk.weights, chunk.shown = place, True


def fill(chunk: ChunkState, values: HostArray, optimizer: Optimizer) -> None:
    """Have a chunk begin with these values, and half precision with a master that is the same numbers."""
    chunk.own()
    np.copyto(chunk.weights, values)
    chunk.master = chunk.weights.astype(SINGLE) if is_half(chunk.weights.dtype) else None
    chunk.slots = optimizer.init(chunk.weights if chunk.master is None else chunk.master)
    chunk.filled = True


def fill_master(chunk: ChunkState, bits: HostArray, part: int, optimizer: Optimizer) -> None:
    """Have a chunk begin with a master of its own; these are the first or the second ``part`` of its bytes.

    Raises BadMessage for a chunk that has none.
    """
    if chunk.master is None:
        raise BadMessage(f"a master of chunk {chunk.chunk.index}, which is {chunk.chunk.dtype} and has none")
    np.copyto(chunk.master.view(bits.dtype)[part * bits.size : (part + 1) * bits.size], bits)
    chunk.slots = optimizer.init(chunk.master)


def no_memory(request: int, rank: int, layout: Layout) -> Error:
    """Return the answer of a server that has no room."""
    return Error(request, "memory", f"server {rank} has no memory for its share of a model of {layout.nbytes} bytes")


def another_model(request: int, rank: int) -> Error:
    """Return the answer to a layout that is not the one in training."""
    return Error(request, "layout", f"server {rank} holds another model, which is in training")


def another_seeder(request: int, rank: int) -> Error:
    """Return the answer to a worker that was taken for dead, so that another's values count now."""
    return Error(request, "evicted", f"server {rank} takes the first values from another worker")


def chunk_of(chunks: Mapping[int, ChunkState], index: int, rank: int) -> ChunkState:
    """Return a server's chunk. Raises BadMessage when it is not its own."""
    chunk = chunks.get(index)
    if chunk is None:
        raise BadMessage(f"server {rank} does not hold chunk {index}")
    return chunk


def filled_chunk(chunks: Mapping[int, ChunkState], index: int, rank: int) -> ChunkState:
    """Return a server's chunk that has values. Raises BadMessage when it has none."""
    chunk = chunk_of(chunks, index, rank)
    if not chunk.filled:
        raise BadMessage(f"chunk {index} has no values yet: kv.init comes first")
    return chunk
