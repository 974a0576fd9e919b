"""Messages between a job and those who follow its model without being members of it."""

from __future__ import annotations

from ps.protocol.messages.base import Message, Packed, message
from ps.protocol.messages.control import Members
from ps.protocol.messages.words import JobPhase
from ps.protocol.ranges import Chunk, Count, CountOrNone, Later, Number, Prose, Random, Settings


@message(70)
class FollowRequest(Message):
    """Anybody asks where a job's model is, and for leave to read it."""

    request: Number


@message(71)
class Followed(Message):
    """How the job is, its servers, and the layout of what they hold; nothing before they hold it.

    ``token`` proves to the servers that the scheduler has given it to this ``follower``.
    """

    large = True
    request: Number
    job_id: Random
    follower: Random
    token: Random
    phase: JobPhase
    reason: Prose
    job: Settings
    members: Members
    layout: Packed


@message(72, answers=("Marked",))
class Mark(Message):
    """A follower wants a snapshot: the weights with ``clock`` steps in them, or, where steps are applied one by one, as
    they are now. What it wanted before goes. -1: none, for now. ``masters``: of half precision the float32 ones."""

    request: Number
    follower: Random
    token: Random
    clock: CountOrNone
    masters: bool


@message(73)
class Marked(Message):
    """The server is at ``reached``; it has, or will have, the follower's snapshot ``clock`` if that is ``kept``."""

    request: Number
    clock: CountOrNone
    reached: Later
    kept: bool


@message(74, answers=("Peeked", "Marked", "Moved"))
class Peek(Message):
    """A follower asks for a chunk of its snapshot."""

    request: Number
    follower: Random
    token: Random
    clock: Count
    chunk: Chunk


@message(75)
class Peeked(Message):
    """A chunk of a snapshot. ``final``: nobody asked, but the job has ended, and these are its last weights."""

    payload = True
    request: Number
    clock: Later
    chunk: Chunk
    final: bool


@message(79)
class Received(Message):
    """A follower has a chunk of the last weights. -1: it goes, and wants nothing more."""

    request: Number
    chunk: CountOrNone
