"""Desk: a scheduler's state and those who talk to it, by hand, with a clock of its own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Container
from typing import Any

import numpy as np

from ps.protocol.layout import Layout
from ps.protocol.messages import Error, Heartbeat, Hello, Message, Welcome
from ps.server.scheduler.registrar import Registrar
from ps.server.scheduler.state import SchedulerState
from ps.server.send import Send
from support.identity import KEY, with_token

MODEL = Layout.of({"w": np.zeros(4, np.float32)}).pack()
OTHER = Layout.of({"w": np.zeros(5, np.float32)}).pack()


class Desk:
    """A scheduler that is spoken to by hand."""

    def __init__(self, **explicit: Any) -> None:
        self._draw = itertools.count(1).__next__
        """Members are called 1, 2, 3 ... here."""
        self.state = SchedulerState({"servers": 1, "workers": 2, **explicit}, 0.0, Registrar(KEY, self._draw))
        self.now = 0.0
        self.nonce = 0
        self.here = False
        """Whether messages come from the scheduler's own host."""
        self.mark, self.offers = "", tuple[str, ...]()
        """What processes say of the realm that they live in, and servers of the ways that lead to them."""

    def say(self, message: Message) -> list[Send]:
        """Say something; whoever submits to a task was given it."""
        record = self.state.members.get(getattr(message, "member", 0))
        return self.state.receive(with_token(message, record.rank if record else 0), self.now, here=self.here)

    def hello(
        self, role: str = "worker", rank: int = -1, nonce: int = 0, suggested: int = -1, **script: Any
    ) -> list[Send]:
        self.nonce += 1
        about = "host", self.nonce, self.mark, self.offers if role == "server" else ()
        hello = Hello(0, nonce or self.nonce, role, rank, *about, script, suggested)
        return self.say(hello)

    def join(self, role: str = "worker", rank: int = -1, suggested: int = -1, **script: Any) -> Welcome:
        answer = self.hello(role, rank, suggested=suggested, **script)[0].message
        assert isinstance(answer, Welcome), answer
        return answer

    def refused(self, role: str = "worker", rank: int = -1, **script: Any) -> Error:
        [send] = self.hello(role, rank, **script)
        assert isinstance(send.message, Error)
        return send.message

    def fill(self) -> list[int]:
        """All members of the job join; return the workers' ids."""
        self.join("server")
        workers = [self.join().member for _ in range(self.state.setting("workers"))]
        assert self.state.phase == "running"
        return workers

    def wait(
        self,
        seconds: float,
        *silent: int,
        reach: Container[int] = (),
        gone: Container[int] = (),
        lives: Container[int] = (),
    ) -> list[Send]:
        """Let time pass while all live members but these are heard.

        Those in ``reach`` keep their connection, the process of those in ``gone`` is known to be gone, and of those in
        ``lives`` to live.
        """
        sends = []
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            for record in list(self.state.members.values()):
                if record.state == "live" and record.member not in silent:
                    self.say(Heartbeat(record.member, self.state.epoch, record.report))
            sends += self.state.tick(
                self.now,
                reach.__contains__,
                lambda record: record.member in gone,
                lambda record: "it is stopped" if record.member in lives else "",
            )
        return sends

    def restart(self, outage: float = 0.0) -> None:
        self.state = SchedulerState.load(json.loads(json.dumps(self.state.dump())), self.now, outage, self._draw)


def messages(sends: list[Send], kind: type[Message]) -> list[tuple[int, Any]]:
    return [(send.to, send.message) for send in sends if isinstance(send.message, kind)]
