"""Messages between workers and servers."""

from __future__ import annotations

from typing import Annotated

from ps.number import MOST_MEMBERS
from ps.protocol.messages.base import Message, Packed, message
from ps.protocol.messages.rate import Rate
from ps.protocol.ranges import (
    MOST_ASKED,
    MOST_TENSORS,
    AtMost,
    Chunk,
    Count,
    CountOrNone,
    Fraction,
    Later,
    LaterOrNone,
    Member,
    Number,
    Rank,
    ServerCount,
    Size,
    Squares,
    Weight,
    Within,
)

Rates = Annotated[tuple[Rate, ...], AtMost(2)]
"""Words about the learning rate: the latest, then a new one."""
Asked = Annotated[tuple[Number, ...], AtMost(MOST_ASKED)]
Absent = Annotated[tuple[Count, ...], AtMost(MOST_TENSORS)]
Sections = Annotated[tuple[tuple[Number, Size, Number], ...], AtMost(MOST_TENSORS)]
Half = Annotated[int, Within(0, 1)]
"""The first or the second half of some bytes."""
Ranks = Annotated[tuple[Rank, ...], AtMost(MOST_MEMBERS)]

NOT_YET = -1
"""The clock of a Waiting from a server whose own news of the job, or of the worker, are still under way."""


@message(32, answers=("Attached",))
class Attach(Message):
    """A worker, member since ``epoch``, presents itself and asks with which clock it may begin."""

    request: Number
    member: Member
    epoch: Count


@message(33)
class Attached(Message):
    """The first clock in which the worker can take part on this server; held open until Start says which."""

    request: Number
    clock: Later


@message(34, answers=("Ok",))
class Start(Message):
    """The worker takes part from ``clock`` on: its contribution is waited for."""

    request: Number
    member: Member
    clock: Count


@message(35, answers=("Ok",))
class Suspend(Message):
    """The worker contributes nothing for now: do not wait for it. It stays a member and may Start again."""

    request: Number
    member: Member


@message(36, answers=("Ok",))
class Init(Message):
    """The seeding worker announces the layout and how it is cut; its values follow as InitChunks."""

    large = True
    request: Number
    member: Member
    servers: ServerCount
    chunk_size: Size
    layout: Packed


@message(37, answers=("Ok",))
class InitChunk(Message):
    """The initial values of one chunk."""

    payload = True
    request: Number
    member: Member
    chunk: Chunk


@message(76, answers=("Ok",))
class InitMaster(Message):
    """Half of the bytes of the float32 master of a chunk in half precision, the first or the second ``part``.

    The chunk's own values came before, and are the master's to the nearest.
    """

    payload = True
    request: Number
    member: Member
    chunk: Chunk
    part: Half


@message(38, answers=("Weights", "WeightsDelta", "Pushed", "Vetoed", "NormPart", "Late"))
class Push(Message):
    """A gradient for one chunk at ``clock``, computed from the chunk's ``version``.

    ``examples`` weighs it among others; the server multiplies the gradient by ``scale``. ``pull`` asks for the
    new weights as the answer. ``rates``: the latest word about the learning rate, then a new one; at most two.
    """

    payload = True
    request: Number
    member: Member
    chunk: Chunk
    clock: Count
    version: CountOrNone
    examples: Weight
    scale: Fraction
    pull: bool
    rates: Rates = ()


@message(57, answers=("Weights", "WeightsDelta", "Pushed", "Vetoed", "NormPart", "Late"))
class PartialPush(Push):
    """A Push of a step in which some tensors have no gradient; zeros stand for it.

    ``absent`` are their numbers among the tensors that have a part in the chunk.
    """

    absent: Absent = ()


@message(39, answers=("Weights", "WeightsDelta", "Pushed", "Vetoed", "NormPart", "Late"))
class Skip(Message):
    """The worker, whose weights are of ``version``, has no gradient for this chunk at ``clock``; go on without it.

    With ``examples`` it took part in the step with so many, none of whose gradients is for a tensor of this chunk:
    beside others' gradients it counts as zeros.
    """

    request: Number
    member: Member
    chunk: Chunk
    clock: Count
    pull: bool
    version: CountOrNone = -1
    rates: Rates = ()
    examples: Weight = 0.0


@message(58, answers=("Weights", "WeightsDelta", "Pushed", "Vetoed", "NormPart", "Late"))
class Veto(Skip):
    """A Skip of one for whose sake nobody is to take the step at ``clock``: where clocks are closed for all at once."""


@message(151, answers=("Contributors",))
class ContributorsRequest(Message):
    """A worker whose next step is the one at ``clock`` asks who shares it, as the server of a chunk has it."""

    request: Number
    member: Member
    chunk: Chunk
    clock: Count


@message(152)
class Contributors(Message):
    """The workers of these ranks share the step at ``clock``, the one that is collected: the same for all who ask.

    To the step before ``contributors`` workers gave gradients, of so many ``examples``; 0: not known.
    """

    request: Number
    clock: Later
    ranks: Ranks
    contributors: Count
    examples: Weight


@message(40, answers=("Weights",))
class Pull(Message):
    """Ask for a chunk's weights once ``clock`` steps are in them (by the mode's meaning of that).

    In shared memory they are put where the worker's parameters are, or ``aside``.
    """

    in_place = False
    request: Number
    member: Member
    chunk: Chunk
    clock: Count
    aside: bool = False


@message(180, answers=("Weights",))
class PullInPlace(Pull):
    """A Pull of a worker that reads the weights where the server keeps them: it is answered alike, and nothing is put
    into the worker's own memory."""

    in_place = True


@message(41)
class NormPart(Message):
    """The squared L2 norm of a chunk's aggregated gradient: add up all chunks, then send Scale."""

    request: Number
    chunk: Chunk
    value: Squares


@message(42, answers=("Weights", "WeightsDelta", "Pushed", "Vetoed"))
class Scale(Message):
    """Second phase of clipping by global norm: apply the aggregated gradient times ``scale``."""

    request: Number
    member: Member
    chunk: Chunk
    clock: Count
    scale: Fraction
    pull: bool = True
    version: CountOrNone = -1


@message(44)
class Weights(Message):
    """The weights of a chunk at ``version``; ``staleness`` is what the mode counts for this worker.

    ``rates``: the latest word about the learning rate, if there was any.
    """

    payload = True
    request: Number
    chunk: Chunk
    version: Later
    staleness: Later
    rates: Rates = ()


@message(51)
class WeightsDelta(Message):
    """How the worker's weights of a chunk, at the version it named, become those at ``version``; compressed."""

    payload = True
    request: Number
    chunk: Chunk
    version: Later
    staleness: Later
    rates: Rates = ()


@message(45)
class Pushed(Message):
    """A push without pull has been taken into the weights, which are now at ``version``."""

    request: Number
    chunk: Chunk
    version: Later
    staleness: Later
    rates: Rates = ()


@message(59)
class Vetoed(Pushed):
    """A worker has vetoed the clock of the push, so the weights, now at ``version``, are what they were before."""


@message(46)
class Late(Message):
    """The push came after its clock was closed and does not count; Attach again to catch up."""

    request: Number
    chunk: Chunk
    version: Later


@message(49)
class Share(Message):
    """A worker hands over its shared memory, for a model of ``nbytes``; with ``weights``, also some for the weights."""

    request: Number
    member: Member
    nbytes: Number
    weights: bool


@message(105)
class SharePart(Message):
    """A worker that has a part of the model hands over memory of ``nbytes`` for it.

    ``sections``: of each that it has, where it begins in the whole, its bytes, and where it begins in this memory.
    """

    request: Number
    member: Member
    nbytes: Number
    sections: Sections


@message(50)
class Shared(Message):
    """The memory is mapped. With ``weights``, that in which this server keeps its weights comes along."""

    request: Number
    weights: bool


@message(47)
class Inquire(Message):
    """A worker that waits long, or has no room in its window, asks whether these unanswered requests are known."""

    request: Number
    member: Member
    requests: Asked


@message(48)
class Waiting(Message):
    """``unknown`` requests never arrived: send them again. The others wait for these worker ranks to reach ``clock``.

    ``clock`` is NOT_YET when the server waits for the scheduler to tell it of the worker, or of the job.
    ``wanted``: other workers wait for the one that asked, so it is to send what its window held back.
    """

    request: Number
    unknown: Asked
    clock: LaterOrNone
    ranks: Ranks
    wanted: bool = False
