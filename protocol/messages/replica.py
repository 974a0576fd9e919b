"""Messages between a server and its standby, which has a copy of its part of the model and is ready to go on for it."""

from __future__ import annotations

from typing import Annotated

from ps.number import MOST_MEMBERS
from ps.protocol.messages.base import Message, Packed, message
from ps.protocol.messages.rate import UNSAID, Rate
from ps.protocol.messages.words import ReplicaChange
from ps.protocol.ranges import (
    MOST_NAME,
    MOST_TENSORS,
    AtMost,
    Chunk,
    Count,
    CountOrNone,
    Finite,
    Later,
    Member,
    Number,
    Rank,
    ServerCount,
    Size,
    Squares,
    Within,
)

Clocks = Annotated[tuple[tuple[Member, Count], ...], AtMost(MOST_MEMBERS)]
"""(member or rank, clocks) of each."""
Missed = Annotated[tuple[tuple[Count, Count], ...], AtMost(MOST_TENSORS)]
Tensors = Annotated[tuple[Count, ...], AtMost(MOST_TENSORS)]
Members = Annotated[tuple[Member, ...], AtMost(MOST_MEMBERS)]
Norms = Annotated[tuple[tuple[Count, Squares], ...], AtMost(1)]
Checksum = Annotated[int, Within(-1, (1 << 32) - 1)]
"""CRC-32 of a chunk's weights; -1: none was made."""
ArrayName = Annotated[str, AtMost(MOST_NAME)]
Participants = Annotated[tuple[tuple[Member, Rank, CountOrNone, bool, bool], ...], AtMost(MOST_MEMBERS)]
"""(member, rank, clock from which it is waited for or -1, whether it is from the beginning, whether it never began)."""


@message(170)
class ReplicaRequest(Message):
    """A standby asks the server whose part of the model it is to have for all of it, and for what changes from then on.

    ``room``: bytes that it may be sent before it says that it has done with them. ``weights``: whether it was given the
    memory, on this line, in which the weights are kept for workers to read.
    """

    request: Number
    member: Member
    room: Size
    weights: bool


@message(171)
class ReplicaAck(Message):
    """A standby has the records up to ``received``, and is done with those up to ``applied``."""

    member: Member
    received: Number
    applied: Number


@message(172)
class ReplicaModel(Message):
    """Record: the model as it is cut, and who gives its first values. What there was of another one is void.

    Without ``layout``: there is none yet, or by now another; open a new line and ask again.
    """

    large = True
    number: Number
    seeder: Member
    servers: ServerCount
    chunk_size: Size
    layout: Packed


@message(173)
class ReplicaParticipants(Message):
    """Record: the workers that take part."""

    large = True
    number: Number
    rows: Participants


@message(174)
class ReplicaArray(Message):
    """Record: one array of a chunk as it is, which counts with the ReplicaRecord ``whole`` that follows.

    In shared memory its bytes are at ``place``.
    """

    payload = True
    number: Number
    chunk: Chunk
    name: ArrayName
    nbytes: Size
    place: Size


@message(175)
class ReplicaRecord(Message):
    """Record: what a server knows of a chunk now, beside its arrays, and how they have changed since the last record.

    none: not at all. whole: they are those that came as ReplicaArray. scaled: the combined gradient that waited was
    applied, times ``scale``. ``more``: another record of this chunk follows, with which this one counts.
    ``done``: member -> clocks in the weights; ``gone``: the same by the rank of who has left; ``holds``: member ->
    clock that is kept open; ``missed``: tensor -> updates it took no part in. ``combined``: the clock of the combined
    gradient that waits for its scale from ``scalers``, or -1. ``shadow``: the version that workers have by compressed
    changes, -1 where there are none.
    """

    large = True
    number: Number
    change: ReplicaChange
    chunk: Chunk
    more: bool
    version: Later
    updates: Count
    reached: Count
    vetoed: CountOrNone
    rate: Rate
    done: Clocks
    gone: Clocks
    holds: Clocks
    missed: Missed
    norms: Norms
    combined: CountOrNone
    scalers: Members
    shadow: CountOrNone
    checksum: Checksum
    scale: Finite = 1.0
    used: Rate = UNSAID
    """The word about the learning rate that counts for the combined gradient, or for this step."""
    absent: Tensors = ()
    """The tensors that the combined gradient, or this step, has nothing of."""


@message(176)
class ReplicaStep(ReplicaRecord):
    """Record: a combined gradient, in ``payload`` or at ``place`` in shared memory: for ``clock``, times ``scale``.

    step: it was applied, with the learning rate divided by ``stale``. combined: it waits for its scale.
    """

    payload = True
    clock: Count = 0
    stale: Count = 1
    nbytes: Size = 0
    place: Size = 0


@message(177)
class ReplicaFilled(Message):
    """Record: from now on this server answers nobody before its standby has what the answer rests on."""

    number: Number


@message(178)
class ReplicaPing(Message):
    """How many records have been sent: whoever has fewer has lost some. Answered with ReplicaAck."""

    number: Number


@message(179)
class ReplicaReady(Message):
    """A standby tells the scheduler, with its heartbeats, that it can go on for ``primary`` at any time."""

    member: Member
    primary: Member
