"""Messages between the workers of a pipeline, with the scheduler about where they are and who takes whose place, and
with the servers about which steps are whole."""

from __future__ import annotations

from typing import Annotated

from ps.protocol.messages.base import Message, message
from ps.protocol.messages.control import Addresses
from ps.protocol.messages.words import TransferKind
from ps.protocol.ranges import (
    MOST_CHANNELS,
    MOST_MICROBATCHES,
    MOST_STAGES,
    AtMost,
    Count,
    Member,
    Number,
    Plain,
    Random,
    Rank,
    Size,
    Within,
)

Stage = Annotated[int, Within(0, MOST_STAGES - 1)]
Microbatch = Annotated[int, Within(-1, MOST_MICROBATCHES - 1)]
Lines = Annotated[tuple[tuple[Rank, Member, Addresses, Random, Random], ...], AtMost(MOST_STAGES)]
Starts = Annotated[tuple[Annotated[int, Within(1, 1 << 40)], ...], AtMost(MOST_STAGES)]
Used = Annotated[tuple[tuple[TransferKind, Stage, Count], ...], AtMost(MOST_CHANNELS)]


@message(80)
class Rendezvous(Message):
    """A worker of a pipeline says where the others reach it, and asks where they are."""

    request: Number
    member: Member
    addresses: Addresses


@message(81)
class Neighbours(Message):
    """All workers of the pipeline are there. ``lines``: (rank, id, addresses, token, token of the other) of each of the
    others: with the first token this worker shows to that one who it is, with the second that one does so here."""

    large = True
    request: Number
    lines: Lines


@message(82)
class Introduce(Message):
    """A worker says on a new connection to another of its pipeline who it is, or a server to another server: what
    follows on it is from that one.

    It is answered with nothing, or an Error.
    """

    request: Number
    member: Member
    token: Random


@message(83)
class TransferPart(Message):
    """A part of what goes from one stage to another; ``number`` counts all parts on this line, from 1.

    What a transfer has of arrays travels one after the other, in parts of at most a frame; ``start``: the first byte of
    this one, of ``nbytes``. ``tree`` says what it is, and comes with the first.
    """

    payload = True
    member: Member
    number: Number
    step: Count
    kind: TransferKind
    stage: Stage
    microbatch: Microbatch
    start: Size
    nbytes: Size
    tree: Plain


@message(84)
class Credit(Message):
    """The parts up to ``number`` are here. ``used``: of each channel, how many transfers have been worked with.

    ``asked``: the number of the CreditRequest that this answers, or 0.
    """

    member: Member
    number: Number
    asked: Number
    used: Used


@message(85)
class CreditRequest(Message):
    """All parts up to ``number`` are on their way: say what has come."""

    member: Member
    number: Number


@message(86)
class SharedTransfer(Message):
    """What goes from one stage to another, whose bytes lie in memory that both workers have; it is numbered as parts
    are. ``use`` counts those of the ``buffer``."""

    member: Member
    number: Number
    step: Count
    kind: TransferKind
    stage: Stage
    microbatch: Microbatch
    nbytes: Size
    tree: Plain
    buffer: Number
    use: Number


@message(87)
class ShareBuffer(Message):
    """A worker hands memory of so many bytes over to another; with 0 the buffer is not used any more.

    It comes on a Unix socket, after an Introduce, with an open file.
    """

    member: Member
    buffer: Number
    nbytes: Size


@message(88)
class CutRequest(Message):
    """A worker asks where the model is cut into stages, or says where it is to be, by what it has measured.

    ``starts``: the first layer of each stage but the first. Who says so first is heeded.
    """

    request: Number
    member: Member
    starts: Starts


@message(89)
class CutChosen(Message):
    """Here the model is cut, for all workers of the job."""

    request: Number
    starts: Starts


@message(92)
class Seat(Message):
    """A worker takes the place of one that is gone: its rank, number and proof are these from now on.

    ``barriers``: how many the former one has met the others in; its successor's script does not wait there again.
    """

    member: Member
    rank: Rank
    number: Number
    proof: Random
    barriers: Count


@message(93, answers=("Held",))
class HeldRequest(Message):
    """A worker, at its place since ``epoch``, asks of how many clocks a server holds all that its pipeline gives.

    It is answered once these are at least ``clock``.
    """

    request: Number
    member: Member
    epoch: Count
    clock: Count


@message(94)
class Held(Message):
    """Of ``clock`` clocks each gradient that the stages of the pipeline have for chunks of this server is here.

    ``heir``: the worker that asked goes on for one that is gone.
    """

    request: Number
    clock: Count
    heir: bool


@message(95, answers=("Ok",))
class Keep(Message):
    """The buffers of a worker's stages as they are after ``clock`` steps, for whoever takes its place."""

    payload = True
    request: Number
    member: Member
    clock: Count


@message(96, answers=("Kept",))
class Recall(Message):
    """A worker that has taken a place asks for the buffers that were kept for it."""

    request: Number
    member: Member
    clock: Count


@message(97)
class Kept(Message):
    """The buffers as they were after ``clock`` steps."""

    payload = True
    request: Number
    clock: Count
