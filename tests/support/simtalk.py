"""Talk: one simulated client's conversations: what it has asked and is not answered, and what it hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ps.errors import PSError, ServersMoved
from ps.protocol.messages import Error, Message, Submitted
from ps.worker.conversation import Calls, Connect, FederatedAsked, Pause, Question
from support.simclient import SimClient

SCHEDULER = "scheduler"


@dataclass(frozen=True)
class Ask:
    """One request, to the scheduler or a server; ``make`` takes its number."""

    to: Any
    make: Callable[[int], Message]
    payload: bytes | None = None


class Talk:
    """Has a client's life. ``post`` sends a message: (to whom, message, payload)."""

    def __init__(self, client: SimClient, post: Callable[[Any, Message, Any], None], now: Callable[[], float]) -> None:
        self.client = client
        self.flying: dict[int, tuple[Ask, float]] = {}
        """Number -> what is asked and not answered, and when it was asked last."""
        self.wakes: float | None = None
        """When it goes on that does nothing now."""
        self.ended = False
        self._life = client.life()
        self._asked: FederatedAsked | None = None
        self._answers: dict[int, Message] = {}
        self._post, self._now = post, now
        self._numbers = 0

    def go_on(self, answers: Any, lost: PSError | None = None) -> None:
        """Let the client go on with answers, or with what is thrown at it. Raises Vanished."""
        self.wakes, self.flying, self._answers = None, {}, {}
        client = self.client
        try:
            asked = self._life.send(answers) if lost is None else self._life.throw(lost)
            while isinstance(asked, Connect):
                asked = self._life.send(None)
        except StopIteration:
            self.ended = True
            return
        self._asked, client.verdict_since = asked, None
        if isinstance(asked, Pause):
            self.wakes = self._now() + asked.seconds
            return
        if isinstance(asked, Question):
            asks = [Ask(SCHEDULER, partial(asked.make, member=client.member))]
            client.verdict_since = self._now() if asked.kind is Submitted else None
        else:
            asks = [
                Ask(("server", call.server), call.make, None if call.payload is None else call.payload.tobytes())
                for call in asked.calls
            ]
        for ask in asks:
            self._numbers += 1
            self.flying[self._numbers] = ask, self._now()
            self.ask(self._numbers)

    def ask(self, number: int) -> None:
        """Ask something, perhaps again."""
        ask, _ = self.flying[number]
        self._post(ask.to, ask.make(number), ask.payload)

    def hear(self, message: Message) -> None:
        """Take an answer. Raises Vanished."""
        number = getattr(message, "request", 0)
        if number not in self.flying:
            return
        ask, _ = self.flying.pop(number)
        assert not isinstance(message, Error), f"client {self.client.rank}: {message!r} to {ask.make(0)}"
        self._answers[number] = message
        if not self.flying:
            answers = [self._answers[number] for number in sorted(self._answers)]
            self.go_on(answers[0] if isinstance(self._asked, Question) else answers)

    @property
    def with_servers(self) -> bool:
        """Whether it waits for servers."""
        return bool(self.flying) and isinstance(self._asked, Calls)

    def lose_servers(self) -> None:
        """It notices that a server is another process now, before it would answer it. Raises Vanished."""
        self.go_on(None, ServersMoved("a server was replaced by another process"))

    def look_after(self) -> None:
        """A while has passed. Raises Vanished."""
        for number, (ask, since) in list(self.flying.items()):
            if self._now() - since > 1.0:
                self.flying[number] = ask, self._now()
                self.ask(number)
        if self.wakes is not None and self.wakes <= self._now():
            self.go_on(None)
