"""Messages about chunks that move from server to server while training goes on."""

from __future__ import annotations

from typing import Annotated

from ps.protocol.messages.base import Message, Packed, message
from ps.protocol.messages.words import Arrival, MoveState
from ps.protocol.ranges import (
    MOST_CHUNKS,
    MOST_HELD,
    MOST_TENSORS,
    AtMost,
    Chunk,
    Count,
    Member,
    Name,
    Number,
    Plain,
    Prose,
    Rank,
    Size,
    Within,
)

MostChunks = Annotated[int, Within(0, MOST_CHUNKS)]
Elsewhere = Annotated[tuple[tuple[Rank, Chunk, MostChunks, MostChunks], ...], AtMost(MOST_TENSORS)]
"""Of chunks that are not where the layout has them: (rank of their server, the first, steps to the next, how many)."""
Chunks = Annotated[tuple[Chunk, ...], AtMost(MOST_HELD)]
HandedOver = Annotated[tuple[tuple[Chunk, Rank], ...], AtMost(MOST_HELD)]


@message(120)
class Placed(Message):
    """Which chunks are not where the layout has them, as of ``epoch``. Said before that View, if any is."""

    large = True
    epoch: Count
    elsewhere: Elsewhere


@message(121, answers=("Drained",))
class DrainRequest(Message):
    """An operator wants the server of this rank to hand over all of its chunks and to end."""

    request: Number
    rank: Rank


@message(122)
class Drained(Message):
    """It has, or ``why`` it does not."""

    request: Number
    why: Prose


@message(123)
class MoveOrder(Message):
    """The scheduler wants a server to hand these ``chunks`` over to ``target``, which has this ``rank``, and no others.

    Said again until its MoveReport shows that it is done. ``leave``: all are handed over, and it may end.
    """

    number: Number
    target: Member
    rank: Rank
    chunks: Chunks
    leave: bool


@message(124)
class MoveReport(Message):
    """How far a server is with the order ``number``: so many are ``left``.

    ``handed``: (chunk, rank of the server that it was handed over to) of those of which no Placed has shown it.
    ``why``: what keeps the others; lost: chunks that it had handed over were at a server that is gone.
    """

    member: Member
    number: Number
    state: MoveState
    handed: HandedOver
    left: Count
    why: Prose


@message(125)
class ChunkBegin(Message):
    """A server begins to hand a chunk over, as its ``number``-th attempt at any; all of its state follows, in parts.

    ``epoch``: of the view that it goes by. ``about``: what is not in arrays, and which arrays there are.
    """

    member: Member
    number: Number
    chunk: Chunk
    epoch: Count
    about: Plain


@message(126)
class ChunkPart(Message):
    """Bytes of the array ``name`` of a chunk's state, from ``start`` on."""

    payload = True
    member: Member
    number: Number
    chunk: Chunk
    name: Name
    start: Size


@message(127)
class ChunkLayout(Message):
    """The model that chunks are of, before the first of them; answered by a ChunkAnswer with the number 0."""

    large = True
    member: Member
    layout: Packed


@message(128)
class ChunkGrant(Message):
    """A chunk that was taken is the target's from now on; said again until its ChunkAnswer shows that it holds it.

    With the number 0 it stays where it was.
    """

    member: Member
    number: Number
    chunk: Chunk


@message(129)
class ChunkAnswer(Message):
    """What has become of an attempt to hand a chunk over, at its target.

    full: it has no memory. unshared: workers read the weights in memory that it does not have. taken: all of it is
    here. held: it was granted, and is answered for here.
    """

    member: Member
    number: Number
    chunk: Chunk
    state: Arrival


@message(130)
class Moved(Message):
    """The chunk that a request is about is at the server of this rank by now: send it there."""

    request: Number
    rank: Rank
