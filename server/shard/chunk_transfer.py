"""A chunk's whole state as plain values and arrays, and back: how it travels from one server to another.

What is left out is nobody's loss: requests that wait are sent to the new holder by their workers, and in async and ssp
the shadow of each worker is made anew when it is first answered there, which costs one uncompressed answer.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ps.checkpoint.chunk_snapshot import CODEC, MASTER, SHADOW, SLOT, WEIGHTS
from ps.compress import Downlink
from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.half import SINGLE, is_half
from ps.optim import Optimizer
from ps.protocol.layout import Chunk, Layout
from ps.server.shard.chunk import ChunkState, Participant
from ps.server.shard.chunk_copy import arrays_of
from ps.server.shard.compression import ALL
from ps.server.shard.first_values import room_for
from ps.server.shard.shadow import Shadow
from ps.xp import HostArray

TABLE = "table/"
MEMBERS = "members"
MOST_ARRAYS = 64
MOST_TIMES = 16
"""Times that a chunk's bytes its state may have, at most, beside its tables."""
LEAST_ROOM = 4 << 20
DTYPES = ("float32", "float64", "float16", "bfloat16", "uint8", "int8", "int32", "int64", "uint32", "uint64")


class Unshareable(Exception):
    """Workers read the chunk's weights in memory that this server does not have."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a server knows of a worker that takes part: its last word, and what follows from that.

    ``word`` numbers the last Attach, Start or Suspend, ``heard`` the last of which the chunk knows; for the rest see
    ``Participant``.
    """

    member: int
    rank: int
    start: int | None
    initial: bool
    fresh: bool
    word: int
    attached: bool
    heard: int


def is_quiet(chunk: ChunkState) -> bool:
    """Whether a chunk is between two clocks: nothing was pushed that is not applied, and nobody wants a copy of it."""
    return chunk.filled and not chunk.pending and chunk.combined is None and chunk.mark < 0


def packed(
    chunk: ChunkState, participants: Iterable[Participant], words: Mapping[int, int]
) -> tuple[dict[str, Any], dict[str, HostArray]]:
    """Return a quiet chunk as plain values, and as arrays by name; these are the chunk's own.

    ``words``: worker -> the number of the last word of it that the chunk has heard, of all that its server has.
    """
    arrays, shadow = arrays_of(chunk), chunk.shadows.get(ALL)
    if chunk.shown:
        del arrays[WEIGHTS]  # the new holder reads them in the same memory
    tables = {"done": chunk.done, "gone": chunk.gone, "holds": chunk.holds, "missed": chunk.absences.missed}
    arrays.update({f"{TABLE}{name}": _table(table.items(), 2) for name, table in tables.items()})
    rows = [
        (p.member, p.rank, -1 if p.start is None else p.start, p.initial, p.fresh, p.word, p.attached, heard)
        for p in participants
        if (heard := words.get(p.member)) is not None
    ]
    arrays[TABLE + MEMBERS] = _table(rows, 8)
    about = {
        "version": chunk.version,
        "updates": chunk.updates,
        "reached": chunk.reached,
        "rate": chunk.rate,
        "counted": (chunk.examples, *chunk.tally, chunk.crew[0], *chunk.crew[1]),
        "vetoed": -1 if chunk.vetoed is None else chunk.vetoed,
        "squares": () if chunk.squares is None else chunk.squares,
        "shadow": -1 if shadow is None else shadow.version,
        "shown": zlib.crc32(chunk.weights.view(np.uint8).data) if chunk.shown else -1,
        "arrays": {name: (array.dtype.name, *array.shape) for name, array in arrays.items()},
    }
    return about, arrays


def _table(rows: Iterable[tuple[Any, ...]], columns: int) -> HostArray:
    return np.array(list(rows), np.int64).reshape(-1, columns)


def room_of(about: Mapping[str, Any], chunk: Chunk) -> dict[str, HostArray]:
    """Return room for the arrays of a state that is on its way. Raises BadMessage, MemoryError."""
    named, most = about.get("arrays"), MOST_TIMES * chunk.nbytes + LEAST_ROOM
    if not isinstance(named, dict) or len(named) > MOST_ARRAYS:
        raise BadMessage(f"the state of chunk {chunk.index} names no arrays")
    sizes = {}
    for name, kind in named.items():
        if not isinstance(kind, tuple) or not kind or kind[0] not in DTYPES:
            raise BadMessage(f"an array {name!r:.60} of chunk {chunk.index} is {kind!r:.60}")
        dtype, *shape = kind
        if not all(isinstance(n, int) and 0 <= n <= most for n in shape):
            raise BadMessage(f"an array {name!r:.60} of chunk {chunk.index} is {kind!r:.60}")
        sizes[name] = math.prod(shape) * np.dtype(dtype).itemsize
    if sum(sizes.values()) > most:
        raise BadMessage(
            f"the state of chunk {chunk.index} has {sum(sizes.values())} bytes; at most {most} are possible"
        )
    return {name: np.empty(kind[1:], kind[0]) for name, kind in named.items()}


def unpacked(
    about: Mapping[str, Any],
    arrays: Mapping[str, HostArray],
    chunk: Chunk,
    layout: Layout,
    job: JobConfig,
    optimizer: Optimizer,
    memory: HostArray | None,
) -> ChunkState:
    """Return the chunk that ``packed`` took apart. ``memory``: in which workers read the weights, if there is such.

    Raises BadMessage for a state that is not one of this chunk, Unshareable, MemoryError.
    """
    try:
        made = _made(about, arrays, chunk, layout, memory)
        made.slots = optimizer.init(made.weights if made.master is None else made.master)
        for name, slot in made.slots.items():
            np.copyto(slot, _fitting(arrays, f"{SLOT}{name}", slot))
        if SHADOW in arrays:
            weights = _fitting(arrays, SHADOW, made.weights)
            fresh = Downlink(job.specs.compress).init(weights)
            state = {name: _fitting(arrays, f"{CODEC}{name}", np.asarray(array)) for name, array in fresh.items()}
            made.shadows[ALL] = Shadow(weights, state, int(about["shadow"]))
        made.done, made.gone = _dict(arrays, "done"), _dict(arrays, "gone")
        made.holds, made.absences.missed = _dict(arrays, "holds"), _dict(arrays, "missed")
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise BadMessage(f"the state of chunk {chunk.index} makes no sense: {error}") from None
    return made


def _made(
    about: Mapping[str, Any], arrays: Mapping[str, HostArray], chunk: Chunk, layout: Layout, memory: HostArray | None
) -> ChunkState:
    made = room_for(chunk, layout, memory)
    if about["shown"] >= 0:
        if memory is None or zlib.crc32(made.weights.view(np.uint8).data) != about["shown"]:
            raise Unshareable
    else:
        if memory is not None:
            made.weights, made.shown = np.zeros(chunk.size, chunk.dtype), False
        np.copyto(made.weights, _fitting(arrays, WEIGHTS, made.weights))
    if is_half(made.weights.dtype):
        made.master = np.empty(chunk.size, SINGLE)
        np.copyto(made.master, _fitting(arrays, MASTER, made.master))
    number, rank, lr, decay = about["rate"]
    made.rate = int(number), int(rank), float(lr), float(decay)
    made.version, made.updates, made.reached = int(about["version"]), int(about["updates"]), int(about["reached"])
    made.vetoed = int(about["vetoed"]) if about["vetoed"] >= 0 else None
    made.squares = (int(about["squares"][0]), float(about["squares"][1])) if about["squares"] else None
    examples, last, count, of, clock, *ranks = about["counted"]
    made.examples, made.tally = float(examples), (int(last), int(count), float(of))
    made.crew = int(clock), tuple(map(int, ranks))
    made.filled = True
    return made


def spoken(arrays: Mapping[str, HostArray]) -> tuple[Spoken, ...]:
    """Return what the former holder of a chunk knew of the workers. Raises BadMessage."""
    rows = arrays.get(TABLE + MEMBERS)
    if rows is None or rows.ndim != 2 or rows.shape[1] != 8:
        raise BadMessage("the state of a chunk does not say who takes part")
    return tuple(
        Spoken(member, rank, None if start < 0 else start, bool(initial), bool(fresh), word, bool(attached), heard)
        for member, rank, start, initial, fresh, word, attached, heard in rows.tolist()
    )


def _dict(arrays: Mapping[str, HostArray], name: str) -> dict[int, int]:
    table = arrays[TABLE + name]
    if table.ndim != 2 or table.shape[1] != 2:
        raise ValueError(f"the table {name} has the shape {table.shape}")
    return {int(key): int(value) for key, value in table.tolist()}


def _fitting(arrays: Mapping[str, HostArray], name: str, like: HostArray) -> HostArray:
    found = arrays[name]
    if (found.shape, found.dtype) != (like.shape, like.dtype):
        raise ValueError(f"{name} is {found.dtype}{list(found.shape)}, not {like.dtype}{list(like.shape)}")
    return found
