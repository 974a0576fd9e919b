"""What a worker says to whom, and what it makes of the answers: generators without sockets, threads and clocks.

A conversation yields what it asks and is sent what was answered: for ``Calls`` the servers' answers, in any order; for
a ``Question`` the scheduler's. So the same code runs over real connections (``runner``), and in the simulators of the
tests, which lose, repeat and delay its messages and interrupt it.

Whoever runs it may lose patience, as when the script is interrupted. What was asked is on its way then, and may be
answered or not. What is ``resumable`` is waited for later, before anything else is asked: a contribution, which counts
in any case, or a barrier, in which others wait. Anything else is forgotten: the runner throws Interrupted where it was
yielded, and the conversation begins anew, for time has passed, and clocks with it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from ps.dataclass import dataclass
from ps.protocol.messages import Message
from ps.xp import HostArray


class Interrupted(Exception):
    """What was asked is not waited for any more, and a while has passed since."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request to one server; ``make`` takes its number."""

    server: int
    make: Callable[[int], Message]
    payload: HostArray | None = None
    """Must not change before the answer."""
    region: tuple[int, int] = (0, 0)
    """First byte and byte behind the last of the chunk in the flat buffer."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Requests to servers that are waited for together; ``label`` says what they are about, for people."""

    label: str
    calls: Sequence[Call]
    refreshes: bool = False
    """Whether the answers bring this worker's own weights up to date."""
    contributes: bool = False
    """Whether they carry, or end, a contribution."""
    resumable: bool = False
    """Whether they are waited for later where the script is interrupted."""
    last: bool = False
    """Whether the script may go on before they are answered: nothing follows unless they come too late."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request to the scheduler; ``make`` takes its number and this member's id. ``waiting`` is what for."""

    make: Callable[[int, int], Message]
    kind: type[Message]
    waiting: str
    resumable: bool = False
    """Whether it is asked again, as the same request, where the script was interrupted."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Have connections to the servers as they are now; all new ones with ``anew``."""

    anew: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


Answered = TypeVar("Answered")
Asked: TypeAlias = Calls | Question
Conversation: TypeAlias = Generator[Asked, Any, Answered]
FederatedAsked: TypeAlias = Calls | Question | Connect | Pause
FederatedConversation: TypeAlias = Generator[FederatedAsked, Any, Answered]


def resumable(conversation: Conversation[None]) -> Conversation[None]:
    """Have a conversation that is always gone on with."""
    answers: Any = None
    while True:
        try:
            asked = conversation.send(answers)
        except StopIteration:
            return
        answers = yield replace(asked, resumable=True)


def anew(begin: Callable[[], Conversation[None]]) -> Generator[Calls | Question, Any, None]:
    """Have a conversation, and again from its beginning whenever it is interrupted."""
    while True:
        try:
            return (yield from begin())
        except Interrupted:
            continue
