"""Messages between members and the scheduler, and those that anybody may send to anybody."""

from __future__ import annotations

from typing import Annotated

from ps.number import MOST_MEMBERS
from ps.protocol.messages.base import Message, Packed, message
from ps.protocol.messages.words import ErrorCode, FailureCode, JobPhase, KeyRole, MemberRole, ProcessRole, StopPhase
from ps.protocol.ranges import (
    MOST_ADDRESSES,
    MOST_KEYS,
    Address,
    AtMost,
    Count,
    Host,
    KeyHex,
    KeyName,
    Later,
    Mark,
    Member,
    Number,
    Picture,
    Pid,
    Place,
    Prose,
    Random,
    Rank,
    RankOrAny,
    Report,
    Seconds,
    Secret,
    Settings,
)

Addresses = Annotated[tuple[Address, ...], AtMost(MOST_ADDRESSES)]
Members = Annotated[tuple[tuple[Member, MemberRole, Rank, bool, Place, Addresses], ...], AtMost(MOST_MEMBERS)]
"""Live members: (id, role, rank, initial, place, addresses)."""

Admitted = Annotated[tuple[tuple[KeyName, KeyRole, KeyHex], ...], AtMost(MOST_KEYS)]
Revoked = Annotated[tuple[KeyHex, ...], AtMost(MOST_KEYS)]


@message(1)
class Hello(Message):
    """A process asks to become a member. ``nonce`` makes a retry recognisable; ``rank`` is -1 for any.

    ``suggested`` is a rank that would do well, or -1: it is given where it is free and one of the job's first ones.
    ``mark`` tells the process from all others that have its id, see ``pid``. ``job_id`` is that of the job whose member
    it was before, 0 for a process that is new.
    """

    request: Number
    nonce: Random
    role: MemberRole
    rank: RankOrAny
    host: Host
    pid: Pid
    mark: Mark
    addresses: Addresses
    script: Settings
    suggested: RankOrAny = -1
    job_id: Random = 0


@message(2)
class Welcome(Message):
    """The scheduler's answer: who you are, and the job's configuration as far as it is known.

    ``job_id`` tells the job from all others; ``number``: how many have joined so far; ``proof`` is for Identify.
    ``key`` is for servers alone: it makes proofs and tokens.
    """

    request: Number
    member: Member
    rank: Rank
    heartbeat_timeout: Seconds
    job: Settings
    job_id: Random = 0
    number: Number = 0
    proof: Random = 0
    key: Secret = ""


@message(3)
class View(Message):
    """Who is in the job from ``epoch`` on. ``members``: (id, role, rank, initial, place, addresses).

    When the job has failed, ``code`` is a word a program may act on, ``reason`` is for people. ``stop``: training is to
    end early, for the reason ``why``; once that is decided ``clock`` is where.
    """

    large = True
    epoch: Count
    phase: JobPhase
    code: FailureCode
    reason: Prose
    job: Settings
    members: Members
    stop: StopPhase = ""
    clock: Later = 0
    why: Prose = ""


@message(150)
class Quorum(Message):
    """As of ``epoch`` so many workers lack of the fewest that the job trains with: begin no step before it is 0."""

    epoch: Count
    missing: Count


@message(4)
class Heartbeat(Message):
    """A member lives; ``report`` is what ``psctl status`` shows of it, ``epoch`` the view it knows."""

    member: Member
    epoch: Count
    report: Report


@message(5)
class HeartbeatAck(Message):
    """The scheduler lives."""

    epoch: Count


@message(6)
class Leave(Message):
    """A member ends in good order."""

    request: Number
    member: Member
    report: Report


@message(7)
class InitRequest(Message):
    """A worker has a model of this layout and asks whether its values or another's count."""

    large = True
    request: Number
    member: Member
    layout: Packed


@message(8)
class InitGrant(Message):
    """``seed``: send your values to the servers, then InitDone. Otherwise the servers have them: pull."""

    request: Number
    seed: bool


@message(9)
class InitDone(Message):
    """The seeding worker has sent all values and every server has them."""

    request: Number
    member: Member


@message(10)
class BarrierEnter(Message):
    """A worker waits for all others; ``clock`` is the number of steps it has done."""

    request: Number
    member: Member
    clock: Count


@message(11)
class BarrierLeave(Message):
    """All live workers are here; the highest clock among them is where they go on."""

    request: Number
    clock: Later


@message(28)
class StopRequest(Message):
    """A worker that has done ``clock`` steps wants training to end. Said again until a View shows that it was heard."""

    member: Member
    clock: Count
    reason: Prose


@message(29)
class StopReady(Message):
    """In answer to a View that asks: a worker has begun the steps before ``clock``, and waits with that one."""

    member: Member
    clock: Count


@message(27)
class Identify(Message):
    """A member says on a new connection who it is, in the words of its Welcome: what follows on it is from that member.

    A server answers it with nothing, the scheduler like Hello.
    """

    request: Number
    job_id: Random
    member: Member
    rank: Rank
    number: Number
    proof: Random


@message(98)
class KeysRequest(Message):
    """A server asks whom the scheduler lets in; ``digest`` is of the list that it has, 0 for none."""

    member: Member
    digest: Random


@message(99)
class Keys(Message):
    """Whom the scheduler lets in: (name, role, CURVE key in hexadecimal), and the keys that were ``revoked``.

    Only where the scheduler has keys; servers let in nobody else but whom they list themselves.
    """

    large = True
    digest: Random
    admitted: Admitted
    revoked: Revoked


@message(12)
class StatusRequest(Message):
    """Anybody asks how the job is."""

    request: Number


@message(13)
class Status(Message):
    """The job as a dict; its keys are in the README under ``psctl status --json``."""

    large = True
    request: Number
    status: Picture


@message(14)
class Ping(Message):
    """Anybody asks any process whether it answers."""

    request: Number


@message(15)
class Pong(Message):
    """A process answers with what it is."""

    request: Number
    role: ProcessRole
    rank: RankOrAny


@message(16)
class Ok(Message):
    """Done; nothing more to say."""

    request: Number


@message(0)
class Error(Message):
    """What went wrong and who is to blame. ``code`` is a word a program may act on, ``text`` is for people.

    This message keeps its number and its fields in every version, so that a mismatch can be explained.
    """

    request: Number
    code: ErrorCode
    text: Prose
