"""What a worker pushes, as a server counts it."""

from __future__ import annotations

from typing import Any

from ps.compress import Decoded
from ps.errors import BadMessage
from ps.protocol.layout import Chunk
from ps.protocol.messages import PartialPush, Push, Skip
from ps.protocol.ranges import MOST_AHEAD
from ps.protocol.worker_memory import WorkerMemory
from ps.server.shard.chunk import ChunkState, Contribution, Participant, read_raw
from ps.server.shard.compression import ShardCompression
from ps.xp import HostArray

NOTHING: frozenset[int] = frozenset()


def contribution_of(
    chunk: ChunkState,
    participant: Participant,
    message: Push | Skip,
    payload: Any,
    compression: ShardCompression | None,
) -> Contribution:
    """Return a push, or a word that there is none, as a contribution. Raises BadMessage for what cannot be one."""
    member, rank, rates = participant.member, participant.rank, message.rates
    if isinstance(message, Skip):
        return Contribution(member, rank, message.clock, chunk.version, message.examples, 1.0, None, rates)
    gradient: HostArray | Decoded
    if compression is None or isinstance(payload, WorkerMemory):
        gradient = array_of(chunk.chunk, payload)
    else:
        gradient = compression.read(payload, chunk.chunk, message.clock, rank)
    about = message.clock, message.version, message.examples, message.scale
    absent = frozenset(message.absent) if isinstance(message, PartialPush) else NOTHING
    if absent and not max(absent) < (tensors := len(chunk.absences.spans)):
        raise BadMessage(f"chunk {chunk.chunk.index} has {tensors} tensors, none with the number {max(absent)}")
    return Contribution(member, rank, *about, gradient, rates, absent)


def array_of(chunk: Chunk, payload: Any) -> HostArray:
    """Return the values of a chunk, out of a frame or of memory that its worker shares. Raises BadMessage."""
    if isinstance(payload, WorkerMemory):
        return payload.part("gradients", chunk)
    return read_raw(chunk, payload)


def demand_near(number: int, counted: int, what: str) -> None:
    """Raise BadMessage for a number that is too far ahead of all that were counted to be an honest one's."""
    if number > counted + MOST_AHEAD:
        raise BadMessage(f"{what} {number}, where {counted} is the highest that was counted")
