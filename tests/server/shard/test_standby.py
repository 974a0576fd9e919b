"""Promises of a standby's line to its server: that it is another one is made known, and what was lost is seen."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ps.config.job import JobConfig
from ps.errors import ReplicaDiverged
from ps.protocol.codec import decode, encode
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Identify,
    Init,
    InitChunk,
    Message,
    ReplicaAck,
    ReplicaFilled,
    ReplicaModel,
    ReplicaPing,
    ReplicaRequest,
    View,
    Welcome,
)
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.replication.primary import PrimaryShard
from ps.server.shard.replication.standby import AGAIN, Standby

JOB = JobConfig(servers=1, workers=1, replicas=1, mode="async", optimizer="sgd:lr=1", chunk_size=1024)
LAYOUT = Layout.of({"w": np.zeros(8, np.float32)})
PRIMARY, STANDBY = 2, 3
MEMBERS = (
    (1, "worker", 0, True, "h, pid 1", ()),
    (PRIMARY, "server", 0, True, "h, pid 2", ()),
    (STANDBY, "server", 1, True, "h, pid 3", ()),
)
VIEW = View(1, "running", "", "", JOB.to_dict(), MEMBERS)


class Line:
    """A connection that ZeroMQ makes anew by itself."""

    pollable: Any = None
    shares_memory = closed = stuck = False
    weights_memory = None

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.here: list[Message] = []
        self.incoming = SimpleNamespace(handshake=SimpleNamespace(successes=1), look=lambda: None)

    def send(self, header: bytes, *about: Any) -> bool:
        self.said.append(decode(header))
        return True

    def receive(self) -> Iterator[bytes]:
        while self.here:
            yield encode(self.here.pop(0))

    def check(self, message: Message) -> None:
        pass


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr(Standby, "_connect", lambda self, peer: line)
    return line


def test_a_standby_says_again_who_it_is_once_its_connection_was_made_anew(line: Line) -> None:
    poller: Any = SimpleNamespace(register=lambda *about: None)
    welcome = Welcome(1, STANDBY, 1, 2.0, JOB.to_dict(), 7, 3, 0, "k" * 16)
    standby = Standby(None, poller, welcome, JOB, GradientShard)  # type: ignore[arg-type]
    assert not standby.view(VIEW, 0.0)
    line.here = [ReplicaModel(1, 1, 1, 1024, LAYOUT.pack())]
    standby.turn(0.1)
    line.said.clear()
    standby.tick(10.0)
    assert not line.said, "there is nothing to say"
    line.incoming.handshake.successes += 1
    standby.turn(10.1)
    standby.tick(10.2)
    assert [type(each) for each in line.said] == [Identify, ReplicaRequest]
    line.said.clear()
    standby.tick(10.3 + AGAIN)
    assert len(line.said) == 2, "it is said until it is answered"
    line.here, line.said = [ReplicaPing(1)], []
    standby.turn(12.0)
    standby.tick(20.0)
    assert [type(each) for each in line.said] == [ReplicaAck]
    line.here = [ReplicaPing(2)]
    with pytest.raises(ReplicaDiverged, match="some were lost"):
        standby.turn(20.1)


def test_a_server_goes_on_by_the_connection_that_its_standby_asks_by_and_says_what_that_should_have() -> None:
    server = PrimaryShard(GradientShard(0), PRIMARY, awaits=True)
    server.view(VIEW, 0.0)
    server.receive(b"w", Init(1, 1, 1, 1024, LAYOUT.pack()), None, 0.0)
    server.receive(b"w", InitChunk(1, 1, 0), np.zeros(8, np.float32), 0.0)
    asked = ReplicaRequest(1, STANDBY, 1 << 20, True)
    sent = server.receive(b"old", asked, None, 0.0)
    last = next(send.message.number for send in sent if isinstance(send.message, ReplicaFilled))
    again = server.receive(b"new", asked, None, 1.0)
    assert [(send.to, send.message) for send in again] == [(b"new", ReplicaPing(last))]
    assert {send.to for send in server.tick(2.0) if isinstance(send.message, ReplicaPing)} == {b"new"}
    server.receive(b"new", ReplicaAck(STANDBY, last, last), None, 3.0)
    assert not [send for send in server.tick(4.0) if isinstance(send.message, ReplicaPing)]
