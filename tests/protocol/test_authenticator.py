"""Promises of an authenticator: it ends with its context and without a word, and who is to be let in can come again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import zmq

from ps.protocol import authenticator
from ps.protocol.guarded_context import GuardedContext
from ps.protocol.security import Security
from ps.protocol.sockets import open_socket
from ps.protocol.transports.tcp import Tcp
from support.keyed import KeyedPeer, Ring


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "keys", worker="worker", stranger="worker")


def test_a_context_that_is_destroyed_ends_its_authenticator_in_good_order(
    ring: Ring, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker's session closes its context so, with the sockets in it, and has nothing to tell of."""
    for _ in range(20):  # the thread is to be caught while it waits for a question
        context = GuardedContext.of(Security(ring.folder("worker")))
        sock = open_socket(context, zmq.ROUTER)
        Tcp().bind(sock, "127.0.0.1", 0, Path())
        assert context._authenticator is not None
        thread = context._authenticator._thread
        context.destroy(linger=0)
        assert sock.closed and not thread.is_alive()
    assert not caplog.records


def test_who_is_about_to_be_listed_gets_in_though_others_ask_who_never_are(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is for ever: ZeroMQ does not connect again after it. So nobody is refused for want of room."""
    monkeypatch.setattr(authenticator, "MOST_PENDING", 3)
    security = Security(ring.folder("scheduler"))
    security.admission.expects = lambda: True
    context, key = GuardedContext.of(security), ring.folder("scheduler").own.public.curve
    sock = open_socket(context, zmq.ROUTER)
    address = Tcp().bind(sock, "127.0.0.1", 0, Path())
    with KeyedPeer(address, ring.folder("worker"), key, handshake=1.0) as friend, contextlib.ExitStack() as stack:
        assert friend.until("in", "refused", bound=0.5) == ""
        strangers = [stack.enter_context(KeyedPeer(address, ring.folder("stranger"), key)) for _ in range(5)]
        assert strangers[-1].until("in", "refused", bound=0.5) == ""
        security.admission.admit([ring.folder("worker").own.public])
        assert friend.until("in", "refused", bound=30.0) == "in"
    sock.close(0)
    context.term()
