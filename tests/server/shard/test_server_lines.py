"""Promises of the lines between servers: only a server of the job is believed, and no more is kept than a bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zmq

from ps.protocol.codec import encode
from ps.protocol.guarded_context import GuardedContext
from ps.protocol.inbox import Inbox
from ps.protocol.messages import ChunkGrant, ChunkPart, Error, Introduce, Message, View
from ps.protocol.security import OPEN
from ps.protocol.sockets import open_socket
from ps.server.bindings import stranger
from ps.server.job_key import JobKey
from ps.server.shard import server_lines
from ps.server.shard.callers import Callers
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.moves import ServerMoves
from ps.server.shard.server_lines import ServerLines
from support.wire import BOUND

KEY = JobKey(7, "secret")
OWN, OTHER = 11, 12


def view(address: str, *others: int, epoch: int = 1) -> View:
    rows = tuple((member, "server", member - OWN, True, "here", (address,)) for member in (OWN, *others))
    return View(epoch, "running", "", "", {"mode": "sync"}, rows)  # type: ignore[arg-type]


class Ends:
    """A server's lines, and the inbox of another server that they lead to."""

    def __init__(self) -> None:
        self.context = GuardedContext.of(OPEN)
        router = open_socket(self.context, zmq.ROUTER)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self.router, self.inbox = router, Inbox(router, "server", 1)
        self.poller = zmq.Poller()
        self.lines = ServerLines(self.context, self.poller)
        self.lines.view(view(self.address, OTHER), OWN, KEY)

    def hear(self) -> tuple[bytes, Any, Any]:
        """Return the next message, and let the lines hear what is answered meanwhile."""
        end = time.monotonic() + BOUND
        while time.monotonic() < end:
            self.lines.receive(dict(self.poller.poll(10)))
            for found in self.inbox.receive(1):
                return found
        raise AssertionError("nothing came")

    def close(self) -> None:
        self.lines.close()
        self.router.close()
        self.context.term()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_what_a_server_says_comes_after_what_proves_who_it_is_with_its_bytes(ends: Ends) -> None:
    values = np.arange(5, dtype=np.float32)
    assert ends.lines.send(OTHER, encode(ChunkPart(OWN, 1, 2, "weights", 0)), values.view(np.uint8))
    origin, introduction, _ = ends.hear()
    assert introduction == Introduce(0, OWN, KEY.line(OWN, OTHER))
    assert ends.hear()[1:2] == (ChunkPart(OWN, 1, 2, "weights", 0),) and origin


def test_who_is_not_known_any_more_says_again_who_it_is(ends: Ends) -> None:
    ends.lines.send(OTHER, encode(ChunkGrant(OWN, 1, 2)))
    origin, introduction, _ = ends.hear()
    message = ends.hear()[1]
    ends.inbox.send(origin, stranger(message))
    assert ends.hear()[1] == introduction


def test_there_are_no_lines_but_to_servers_that_are_there(ends: Ends) -> None:
    grant = encode(ChunkGrant(OWN, 1, 2))
    assert not ends.lines.send(99, grant)
    assert ends.lines.send(OTHER, grant)
    ends.lines.view(view(ends.address, epoch=2), OWN, KEY)
    assert not ends.lines.send(OTHER, grant)
    assert not ends.poller.sockets


def test_of_what_is_not_read_no_more_is_kept_than_a_bound(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_lines, "MOST_UNREAD", 60 << 20)
    piece, sent = np.zeros(8 << 20, np.uint8), 0
    while ends.lines.send(OTHER, encode(ChunkPart(OWN, 1, 2, "weights", 0)), piece):
        sent += 1
        assert sent < 100, "all of it is kept"


Meet = Callable[[Introduce], Error | None]


@pytest.fixture
def meet() -> Meet:
    """How a server whose id is OTHER takes an introduction."""
    moves, callers = ServerMoves(zmq.Context.instance(), zmq.Poller()), Callers()  # type: ignore[arg-type]
    callers.join(KEY)
    shard = GradientShard(1)
    moves.view(view("tcp://127.0.0.1:1", OTHER), OTHER, callers)
    shard.view(view("tcp://127.0.0.1:1", OTHER), 0.0)
    return lambda message: moves.meet(shard, callers, b"a connection", message, None)[1]


@pytest.mark.parametrize(
    "token",
    [0, KEY.line(OTHER, OWN), KEY.proof(OWN, 0, 1), KEY.token(OWN, 0), JobKey(7, "another").line(OWN, OTHER)],
)
def test_nobody_is_taken_for_a_server_but_whom_the_jobs_secret_proves_to_be_one(meet: Meet, token: int) -> None:
    assert meet(Introduce(0, OWN, KEY.line(OWN, OTHER))) is None
    refusal: Message | None = meet(Introduce(0, OWN, token))
    assert isinstance(refusal, Error) and refusal.code == "stranger"
