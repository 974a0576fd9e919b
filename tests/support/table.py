"""Table: Rounds, with clients that do what a test says, and servers that obey at once unless a test stops them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Assign,
    Decline,
    Distances,
    Finished,
    Message,
    Poll,
    RoundOrder,
    RoundStatus,
    Submit,
    Submitted,
    Wait,
)
from ps.server.scheduler.rounds.rounds import Rounds
from ps.server.send import Send
from support.delta_parts import job_of
from support.identity import KEY

LAYOUT = Layout.of({"w": np.zeros(64, np.float32)})


class Server:
    """What a server would do, without any deltas."""

    def __init__(self, version: int = 0) -> None:
        self.version, self.attempt, self.phase, self.folded = version, 0, "collect", 0
        self.staged: dict[int, tuple[float, str]] = {}
        self.deny = False
        """Whether it cannot prepare what it is to: it has lost something."""

    def obey(self, order: RoundOrder, member: int) -> Iterable[Message]:
        if order.version == self.version:
            if order.attempt != self.attempt:
                self.attempt, self.phase, self.folded = order.attempt, "collect", 0
            for number, entry in enumerate(order.entries, order.first):
                if number == self.folded:
                    self.folded += 1
                    self.staged.pop(entry[0], None)
            self.staged = {task: what for task, what in self.staged.items() if task >= order.floor}
            if self.folded >= order.count and order.phase == "sum":
                self.phase = "summed"
            if self.folded >= order.count and order.phase == "prepare":
                self.phase = "broken" if self.deny else "prepared"
            if order.phase == "publish" and self.phase == "prepared":
                self.version, self.phase, self.folded = self.version + 1, "collect", 0
        yield self.round_status(member)

    def round_status(self, member: int) -> RoundStatus:
        staged = tuple((task, squares, wrong) for task, (squares, wrong) in self.staged.items())
        return RoundStatus(member, self.version, self.attempt, self.phase, self.folded, True, staged)


class Table:
    """Client n is member 100 + n, server n is member 1 + n."""

    def __init__(self, heard: bool = True, **settings: Any) -> None:
        """``heard``: all servers have said that they have their part of the model on disk."""
        self.job = job_of(servers=2, round_deadline=60.0, **settings)
        self.now = 0.0
        self.live = set(range(self.job.workers))
        self.servers = {rank: Server() for rank in range(2)}
        self.deaf: set[int] = set()
        """Servers to whom no order gets through."""
        self.heard: dict[int, list[Message]] = {}
        self.orders: list[tuple[int, RoundOrder]] = []
        self.numbers = 0
        self.saves = True
        """Whether there is room on the scheduler's disk; with differential privacy it matters."""
        self.rounds = self._rounds()
        for rank in self.servers if heard else ():
            self.say(rank)

    def _rounds(self) -> Rounds:
        here = lambda rank: 1 + rank if rank in self.servers else 0  # noqa: E731
        return Rounds(
            self.job, LAYOUT, self.now, clients=lambda: len(self.live), server=here, token=KEY.token, job_id="1"
        )

    def restart(self) -> None:
        """The scheduler's process is killed and started again."""
        saved = json.loads(json.dumps([self.rounds.dump(), self.rounds.history]))
        self.rounds = self._rounds()
        self.rounds.load(*saved, self.now)

    def _tell(self, said: Iterable[Send]) -> None:
        for member, message in [(send.to, send.message) for send in said]:
            assert isinstance(member, int)
            if isinstance(message, RoundOrder):
                rank = member - 1
                self.orders.append((rank, message))
                if rank in self.servers and rank not in self.deaf:
                    for tiding in self.servers[rank].obey(message, member):
                        assert isinstance(tiding, RoundStatus)
                        self._tell(self.rounds.server_status(tiding, rank, self.now))
            else:
                self.heard.setdefault(member - 100, []).append(message)
        if self.job.dp and self.saves and self.rounds.changed:
            self._tell(list(self.rounds.saved(self.now)))

    def answer(self, client: int) -> Any:
        """Return what a client was told last, None if nothing."""
        heard = self.heard.pop(client, [])
        return heard[-1] if heard else None

    def poll(self, *clients: int) -> list[Any]:
        """Clients offer themselves; return what they are told, at once or when the window for others is over."""
        for client in clients:
            self.numbers += 1
            self.heard.pop(client, None)
            self._tell(self.rounds.poll(Poll(self.numbers, 100 + client, 0, {}), client, self.now))
        return [self.answer(client) for client in clients]

    def task(self, client: int) -> int:
        """Offer a client, which must be taken; return its task."""
        [answer] = self.poll(client)
        if answer is None:
            self.pass_time(1.0)
            answer = self.answer(client)
        assert isinstance(answer, Assign), answer
        return answer.task

    def tasks(self, *clients: int) -> list[int]:
        """Offer clients together, which must all be taken; return their tasks."""
        answers = self.poll(*clients)
        if None in answers:
            self.pass_time(1.0)
            answers = [answer or self.answer(client) for client, answer in zip(clients, answers, strict=True)]
        assert all(isinstance(answer, Assign) for answer in answers), answers
        return [answer.task for answer in answers]

    def upload(self, task: int, squares: float = 1.0, wrong: str = "", servers: Iterable[int] = (0, 1)) -> None:
        """Servers get all of a delta."""
        for rank in servers:
            self.servers[rank].staged[task] = squares, wrong
            self.say(rank)

    def say(self, rank: int) -> None:
        """A server tells where it stands."""
        self._tell(self.rounds.server_status(self.servers[rank].round_status(1 + rank), rank, self.now))

    def submit(self, client: int, task: int, examples: float = 1.0, version: int = 0, steps: int = 1) -> str | None:
        """Return the verdict, if there is one at once."""
        self.numbers += 1
        submit = Submit(self.numbers, 100 + client, task, version, examples, steps, {}, KEY.token(task, client))
        self._tell(self.rounds.submit(submit, client, self.now))
        return self.verdict(client)

    def verdict(self, client: int) -> str | None:
        """Return the verdict that a client was told last."""
        answer = self.answer(client)
        return answer.verdict if isinstance(answer, Submitted) else None

    def contribute(self, client: int, task: int, **claims: Any) -> str | None:
        """Upload and submit."""
        self.upload(task)
        return self.submit(client, task, **claims)

    def decline(self, client: int, task: int) -> None:
        self._tell(self.rounds.decline(Decline(1, 100 + client, task, "why"), client, self.now))
        self.heard.pop(client, None)

    def lose(self, client: int) -> None:
        """A client is gone."""
        self.live.discard(client)
        self._tell(self.rounds.client_lost(100 + client, client, self.now))

    def lose_server(self, rank: int) -> None:
        """A server is gone."""
        del self.servers[rank]
        self._tell(self.rounds.server_lost(rank, self.now))

    def bring_back(self, rank: int, version: int | None = None) -> None:
        """A server comes back with what was published."""
        self.servers[rank] = Server(self.rounds.version if version is None else version)
        self.say(rank)

    def measure(self, rank: int, matrix: Any, attempt: int = 1) -> None:
        """A server has measured."""
        frame = np.asarray(matrix, np.float64).tobytes()
        message = Distances(1 + rank, attempt, len(matrix))
        self._tell(self.rounds.distances(message, rank, frame, self.now))

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            self._tell(self.rounds.tick(self.now))

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.rounds.status()["refused"])


def kinds(answers: Iterable[Any]) -> list[str]:
    """Return a letter for each answer: Assign, Wait, Finished, or - for none."""
    letters = {Assign: "A", Wait: "W", Finished: "F", type(None): "-"}
    return [letters[type(answer)] for answer in answers]
