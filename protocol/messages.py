"""The messages, as frozen dataclasses, and the one table that gives each its number on the wire.

What a message means is told here; its bytes are made and read in ``codec``. Fields are sent in the order they
are declared. ``request`` numbers a question so that its answer can be told apart and a retry be recognised.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

Packed = tuple[tuple[str, str, tuple[int, ...]], ...]
"""A layout on the wire: (name, dtype, shape) of each tensor, in order."""


class Message:
    """Base of all messages; ``payload`` says whether one raw tensor frame follows the header.

    ``large`` messages hold a layout or all members and may have a long header.
    """

    __slots__ = ()
    payload: ClassVar[bool] = False
    large: ClassVar[bool] = False

    def __repr__(self) -> str:
        shown = ((field.name, repr(getattr(self, field.name))) for field in fields(self))  # type: ignore[arg-type]
        brief = (f"{name}={text if len(text) <= 60 else text[:57] + '...'}" for name, text in shown)
        return f"{type(self).__name__}({', '.join(brief)})"


M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True)
def message(cls: type[M]) -> type[M]:
    """Make a message: a frozen, slotted dataclass with the one-line repr of its base."""
    return dataclass(frozen=True, slots=True, repr=False)(cls)


# Members and the scheduler.


@message
class Hello(Message):
    """A process asks to become a member. ``nonce`` makes a retry recognisable; ``rank`` is -1 for any."""

    request: int
    nonce: int
    role: str
    rank: int
    host: str
    pid: int
    addresses: tuple[str, ...]
    script: dict[str, Any]


@message
class Welcome(Message):
    """The scheduler's answer: who you are, and the job's configuration as far as it is known."""

    request: int
    member: int
    rank: int
    heartbeat_timeout: float
    job: dict[str, Any]


@message
class View(Message):
    """Who is in the job from ``epoch`` on. ``members``: (id, role, rank, initial, place, addresses)."""

    large = True
    epoch: int
    phase: str
    reason: str
    job: dict[str, Any]
    members: tuple[tuple[int, str, int, bool, str, tuple[str, ...]], ...]


@message
class Heartbeat(Message):
    """A member lives; ``report`` is what ``psctl status`` shows of it, ``epoch`` the view it knows."""

    member: int
    epoch: int
    report: dict[str, Any]


@message
class HeartbeatAck(Message):
    """The scheduler lives."""

    epoch: int


@message
class Leave(Message):
    """A member ends in good order."""

    request: int
    member: int
    report: dict[str, Any]


@message
class InitRequest(Message):
    """A worker has a model of this layout and asks whether its values or another's count."""

    large = True
    request: int
    member: int
    layout: Packed


@message
class InitGrant(Message):
    """``seed``: send your values to the servers, then InitDone. Otherwise the servers have them: pull."""

    request: int
    seed: bool


@message
class InitDone(Message):
    """The seeding worker has sent all values and every server has them."""

    request: int
    member: int


@message
class BarrierEnter(Message):
    """A worker waits for all others; ``clock`` is the number of steps it has done."""

    request: int
    member: int
    clock: int


@message
class BarrierLeave(Message):
    """All live workers are here; the highest clock among them is where they go on."""

    request: int
    clock: int


@message
class StatusRequest(Message):
    """Anybody asks how the job is."""

    request: int


@message
class Status(Message):
    """The job as a dict; its keys are in the README under ``psctl status --json``."""

    large = True
    request: int
    status: dict[str, Any]


@message
class Ping(Message):
    """Anybody asks any process whether it answers."""

    request: int


@message
class Pong(Message):
    """A process answers with what it is."""

    request: int
    role: str
    rank: int


@message
class Ok(Message):
    """Done; nothing more to say."""

    request: int


@message
class Error(Message):
    """What went wrong and who is to blame. ``code`` is a word a program may act on, ``text`` is for people.

    This message keeps its number and its fields in every version, so that a mismatch can be explained.
    """

    request: int
    code: str
    text: str


# Workers and servers.


@message
class Attach(Message):
    """A worker, member since ``epoch``, presents itself and asks with which clock it may begin."""

    request: int
    member: int
    epoch: int


@message
class Attached(Message):
    """The first clock in which the worker can take part on this server; held open until Start says which."""

    request: int
    clock: int


@message
class Start(Message):
    """The worker takes part from ``clock`` on: its contribution is waited for."""

    request: int
    member: int
    clock: int


@message
class Retire(Message):
    """The worker contributes nothing for now: do not wait for it. It stays a member and may Start again."""

    request: int
    member: int


@message
class Init(Message):
    """The seeding worker announces the layout and how it is cut; its values follow as InitChunks."""

    large = True
    request: int
    member: int
    servers: int
    chunk_size: int
    layout: Packed


@message
class InitChunk(Message):
    """The initial values of one chunk."""

    payload = True
    request: int
    member: int
    chunk: int


@message
class Push(Message):
    """A gradient for one chunk at ``clock``, computed from the chunk's ``version``.

    ``examples`` weighs it among others; the server multiplies the gradient by ``scale``. ``pull`` asks for the
    new weights as the answer.
    """

    payload = True
    request: int
    member: int
    chunk: int
    clock: int
    version: int
    examples: float
    scale: float
    pull: bool


@message
class Skip(Message):
    """The worker has no gradient for this chunk at ``clock``; the others go on without it."""

    request: int
    member: int
    chunk: int
    clock: int
    pull: bool


@message
class Pull(Message):
    """Ask for a chunk's weights once ``clock`` steps are in them (by the mode's meaning of that)."""

    request: int
    member: int
    chunk: int
    clock: int


@message
class Squares(Message):
    """The squared L2 norm of a chunk's aggregated gradient: add up all chunks, then send Scale."""

    request: int
    chunk: int
    value: float


@message
class Scale(Message):
    """Second phase of clipping by global norm: apply the aggregated gradient times ``scale``."""

    request: int
    member: int
    chunk: int
    clock: int
    scale: float


@message
class SetLr(Message):
    """From ``clock`` on the base learning rate is ``lr``."""

    request: int
    member: int
    clock: int
    lr: float


@message
class Weights(Message):
    """The weights of a chunk at ``version``; ``staleness`` is what the mode counts for this worker."""

    payload = True
    request: int
    chunk: int
    version: int
    staleness: int


@message
class Pushed(Message):
    """A push without pull has been taken into the weights, which are now at ``version``."""

    request: int
    chunk: int
    version: int
    staleness: int


@message
class Late(Message):
    """The push came after its clock was closed and does not count; Attach again to catch up."""

    request: int
    chunk: int
    version: int


@message
class Inquire(Message):
    """A worker that waits long asks whether its requests are known. ``requests`` are the unanswered ones."""

    request: int
    member: int
    requests: tuple[int, ...]


@message
class Waiting(Message):
    """``unknown`` requests never arrived: send them again. The others wait for these worker ranks."""

    request: int
    unknown: tuple[int, ...]
    clock: int
    ranks: tuple[int, ...]


TYPES: dict[int, type[Message]] = {
    0: Error,
    1: Hello,
    2: Welcome,
    3: View,
    4: Heartbeat,
    5: HeartbeatAck,
    6: Leave,
    7: InitRequest,
    8: InitGrant,
    9: InitDone,
    10: BarrierEnter,
    11: BarrierLeave,
    12: StatusRequest,
    13: Status,
    14: Ping,
    15: Pong,
    16: Ok,
    32: Attach,
    33: Attached,
    34: Start,
    35: Retire,
    36: Init,
    37: InitChunk,
    38: Push,
    39: Skip,
    40: Pull,
    41: Squares,
    42: Scale,
    43: SetLr,
    44: Weights,
    45: Pushed,
    46: Late,
    47: Inquire,
    48: Waiting,
}
"""Number on the wire -> message. A number is never given to another message."""
