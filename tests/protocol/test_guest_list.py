"""Promises of every socket that listens: only who is listed gets in, and nobody where nobody can say who that is."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from ps.config import ProcessConfig
from ps.errors import ConfigError, KeyRefused, PeerLost
from ps.keys import key_folder
from ps.keys.public_keys import PublicKeys
from ps.protocol import authenticator, guarded_context, rights
from ps.protocol.authenticator import Authenticator
from ps.protocol.guarded_context import GuardedContext, aim
from ps.protocol.inbox import Inbox
from ps.protocol.messages import TYPES, Error, Hello, Leave, Ping, Pong, View, Welcome
from ps.protocol.query import ping
from ps.protocol.security import Security
from ps.protocol.sockets import open_socket
from ps.protocol.transports.ipc import Ipc
from ps.protocol.transports.tcp import Tcp
from ps.server.scheduler.service import serve as serve_scheduler
from ps.worker.pipeline.line_sockets import LineSockets
from support.keyed import Keyed, KeyedPeer, Ring, garbage_is_cut_off
from support.schema import extreme
from support.wire import Service

Attack = Callable[[str, Ring, str], None]


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    made = Ring(tmp_path / "keys", server="server", worker="worker", other="worker", operator="operator")
    made.add("stranger", "worker", listed=False)
    return made


class Listening:
    """Something of ours that listens, whose keys it has, and who may say Ping to it."""

    def __init__(self, address: str, name: str, friend: str, security: Security | None = None) -> None:
        self.address, self.name, self.friend, self.security = address, name, friend, security


@contextlib.contextmanager
def scheduler(ring: Ring, port: int = 0) -> Iterator[Listening]:
    with Keyed() as made:
        yield Listening(made.scheduler(ProcessConfig(keys=ring["scheduler"], port=port)), "scheduler", "operator")


@contextlib.contextmanager
def server(ring: Ring) -> Iterator[Listening]:
    with Keyed() as made:
        above = made.scheduler(ProcessConfig(keys=ring["scheduler"]))
        yield Listening(made.server(ProcessConfig(keys=ring["server"], scheduler=above)), "server", "operator")


@contextlib.contextmanager
def line(ring: Ring) -> Iterator[Listening]:
    """A worker's lines to the others of its pipeline, of which the other one is a neighbour."""
    security = Security(ring.folder("worker"))
    context, poller, stop = GuardedContext.of(security), zmq.Poller(), threading.Event()
    made = LineSockets(context, ProcessConfig(), 0, poller, lambda: False)
    other = ring.folder("other").own.public
    security.admission.admit([PublicKeys("worker-1", "worker", other.curve)])

    def serve() -> None:
        while not stop.is_set():
            poller.poll(20)
            list(made._inbox.receive(100))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    address = next(each for each in made.addresses if each.startswith("tcp:"))
    assert address.endswith(f"?key={ring.folder('worker').own.public.curve.hex()}")
    try:
        yield Listening(address.partition("?")[0], "worker", "other", security)
    finally:
        stop.set()
        thread.join(10)
        made.close()
        context.term()


def unlisted(address: str, ring: Ring, name: str) -> None:
    with KeyedPeer(address, ring.folder("stranger"), ring.folder(name).own.public.curve) as peer:
        assert peer.until("in", "refused") == "refused"


def no_key(address: str, ring: Ring, name: str) -> None:
    with KeyedPeer(address, None) as peer:
        assert peer.until("in", "failed") == "failed"


def plain(address: str, ring: Ring, name: str) -> None:
    with KeyedPeer(address, None, plain=True) as peer:
        assert peer.until("in", "failed") == "failed"


def wrong_server(address: str, ring: Ring, name: str) -> None:
    with KeyedPeer(address, ring.folder("worker"), ring.folder("stranger").own.public.curve) as peer:
        assert peer.until("in", "failed") == "failed"


def raw(address: str, ring: Ring, name: str) -> None:
    assert garbage_is_cut_off(address)


@pytest.mark.parametrize("listening", [scheduler, server, line])
def test_only_who_is_listed_gets_in(
    ring: Ring, listening: Callable[[Ring], contextlib.AbstractContextManager[Listening]]
) -> None:
    with listening(ring) as found:
        expected = ring.folder(found.name).own.public.curve
        with KeyedPeer(found.address, ring.folder(found.friend), expected) as friend:
            friend.say(Ping(1))
            assert friend.hear(Pong).role == found.name
            for attack in (unlisted, no_key, plain, wrong_server, raw):
                attack(found.address, ring, found.name)
            friend.say(Ping(2))
            assert friend.hear(Pong).request == 2


def test_what_is_listened_on_is_what_these_tests_attack() -> None:
    """Whoever binds a socket elsewhere adds it to the attacks above."""
    root = Path(__file__).parents[2]
    found = {
        str(path.relative_to(root))
        for folder in ("ps", "protocol", "server", "worker")
        for path in (root / folder).rglob("*.py")
        if not path.is_relative_to(root / "ps/protocol")
        and (".bind(f" in (text := path.read_text()) or ".bind(str" in text or ".bind(E" in text)
    }
    assert {name.removeprefix("ps/") for name in found} == {
        "protocol/authenticator.py",  # inproc
        "protocol/transports/ipc.py",
        "protocol/transports/unix_listener.py",  # same user: tests/protocol/test_unix_channel.py
        "protocol/transports/tcp.py",
        "worker/scheduler_client.py",  # inproc
    }


@pytest.fixture
def listener(ring: Ring) -> Iterator[tuple[Inbox, GuardedContext, str]]:
    """An inbox that nobody reads but the test."""
    security = Security(ring.folder("scheduler"))
    security.admit_listed()
    context = GuardedContext.of(security)
    sock = open_socket(context, zmq.ROUTER)
    address = Tcp().bind(sock, "127.0.0.1", 0, Path())
    yield Inbox(sock, "scheduler", 0, admission=security.admission), context, address
    sock.close(0)
    context.term()


def test_before_the_authenticator_answers_nobody_gets_in(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    go, run = threading.Event(), Authenticator._run
    monkeypatch.setattr(Authenticator, "_run", lambda self: (go.wait(60), run(self)))
    security = Security(ring.folder("scheduler"))
    security.admit_listed()
    context = GuardedContext.of(security)
    sock = open_socket(context, zmq.ROUTER)
    address = Tcp().bind(sock, "127.0.0.1", 0, Path())
    key = ring.folder("scheduler").own.public.curve
    try:
        with (
            KeyedPeer(address, ring.folder("worker"), key) as friend,
            KeyedPeer(address, ring.folder("stranger"), key) as stranger,
        ):
            assert friend.until("in", bound=0.5) == stranger.until("in", bound=0.5) == ""
            go.set()
            assert friend.until("in", "refused") == "in"
            assert stranger.until("in", "refused") == "refused"
    finally:
        go.set()
        sock.close(0)
        context.term()


def test_after_the_authenticator_has_died_nobody_gets_in_and_that_is_told(
    ring: Ring,
    listener: tuple[Inbox, GuardedContext, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    inbox, context, address = listener
    key = ring.folder("scheduler").own.public.curve
    with KeyedPeer(address, ring.folder("worker"), key) as before:
        assert before.until("in") == "in"

        def die(self: Authenticator, frames: list[bytes]) -> None:
            raise RuntimeError("no memory")

        monkeypatch.setattr(Authenticator, "_take", die)
        with (
            KeyedPeer(address, ring.folder("other"), key) as late,
            KeyedPeer(address, ring.folder("stranger"), key) as stranger,
        ):
            assert late.until("in", bound=1.0) == ""
            assert stranger.until("in", bound=0.5) == ""
            assert context._authenticator is not None and not context._authenticator.alive
            assert "nobody new is let in any more" in caplog.text
        before.say(Ping(1))
        assert inbox.socket.poll(10_000)
        assert not list(inbox.receive(10))  # it is answered there
        assert before.hear(Pong)


def test_one_question_that_goes_wrong_is_refused_and_the_next_one_answered(
    ring: Ring, listener: tuple[Inbox, GuardedContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, address = listener
    key, user = ring.folder("scheduler").own.public.curve, Authenticator._user
    wrong = [True]

    def once(self: Authenticator, *about: Any) -> str:
        if wrong.pop():
            raise ValueError("?")
        return user(self, *about)

    monkeypatch.setattr(Authenticator, "_user", once)
    wrong[:] = [False, True]
    with KeyedPeer(address, ring.folder("worker"), key) as first:
        assert first.until("in", "refused") == "refused"
    with KeyedPeer(address, ring.folder("worker"), key) as second:
        assert second.until("in", "refused") == "in"


def test_in_a_context_without_an_authenticator_a_key_alone_is_not_heard(ring: Ring) -> None:
    """ZeroMQ lets everybody in there; that is why nobody is heard whom it has not asked about."""
    own, security = ring.folder("scheduler").own, Security(ring.folder("scheduler"))
    security.admit_listed()
    context: zmq.Context[Any] = zmq.Context()
    sock = open_socket(context, zmq.ROUTER)
    sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(own.curve))
    sock.setsockopt(zmq.CURVE_SERVER, 1)
    port = sock.bind_to_random_port("tcp://127.0.0.1")
    inbox = Inbox(sock, "scheduler", 0, admission=security.admission)
    with KeyedPeer(f"tcp://127.0.0.1:{port}", ring.folder("stranger"), own.public.curve) as stranger:
        stranger.say(Ping(1))
        assert sock.poll(10_000), "ZeroMQ has begun to refuse it: good"
        assert not list(inbox.receive(10))
        assert inbox.rejected == {"unlisted": 1}
    sock.close(0)
    context.term()


def test_an_empty_list_lets_nobody_in(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "k")
    ring.add("stranger", "worker", listed=False)
    with scheduler(ring) as found:
        unlisted(found.address, ring, "scheduler")
        no_key(found.address, ring, "scheduler")


def test_after_a_restart_the_same_get_in_and_nobody_else(ring: Ring) -> None:
    key = ring.folder("scheduler").own.public.curve
    process = ProcessConfig(keys=ring["scheduler"])
    first = Service(lambda ready: serve_scheduler({"start_timeout": 0.1}, process, ready=ready))
    address = first.address
    with KeyedPeer(address, ring.folder("worker"), key) as friend:
        assert friend.until("in") == "in"
        friend.say(Hello(0, 1, "worker", -1, "h", 1, "", (), {}))
        member = friend.hear(Welcome).member
        friend.hear(View, lambda view: view.phase == "failed")
        friend.say(Leave(1, member, {}))
        assert isinstance(first.result(), PeerLost)
        friend.seen.clear()
        with scheduler(ring, int(address.rpartition(":")[2])):
            assert friend.until("in", "refused") == "in"
            for attack in (unlisted, no_key, plain, raw):
                attack(address, ring, "scheduler")


def test_unix_sockets_let_in_processes_of_this_user_with_keys_and_without(
    ring: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    security = Security(ring.folder("server"))
    context = GuardedContext.of(security)
    sock = open_socket(context, zmq.ROUTER)
    inbox = Inbox(sock, "server", 0, admission=security.admission)
    address = Ipc().bind(sock, "127.0.0.1", 0, tmp_path)
    with KeyedPeer(address, None) as peer:
        peer.say(Ping(1))
        assert sock.poll(10_000) and not list(inbox.receive(10))
        assert peer.hear(Pong)
    monkeypatch.setattr(authenticator.os, "getuid", lambda: 12345)
    with KeyedPeer(address, None) as foreign:
        assert foreign.until("in", "refused") == "refused"
    sock.close(0)
    context.term()


def test_without_keys_a_unix_socket_is_closed_to_other_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_context.os, "getuid", lambda: 12345)
    context = GuardedContext()
    sock = open_socket(context, zmq.ROUTER)
    address = Ipc().bind(sock, "127.0.0.1", 0, tmp_path)
    with KeyedPeer(address, None) as foreign:
        assert foreign.until("in", bound=1.0) == ""
    sock.close(0)
    context.term()


def test_without_keys_nothing_is_listened_on_but_loopback() -> None:
    context = GuardedContext()
    with open_socket(context, zmq.ROUTER) as sock:
        with pytest.raises(ConfigError, match=r"--keys DIR .*or --insecure"):
            Tcp().bind(sock, "0.0.0.0", 0, Path())
        for host in ("127.0.0.1", "localhost"):
            Tcp().bind(sock, host, 0, Path())
    context.term()
    trusting = GuardedContext.of(Security(insecure=True))
    with open_socket(trusting, zmq.ROUTER) as sock:
        Tcp().bind(sock, "0.0.0.0", 0, Path())
    trusting.term()


def test_whose_key_was_refused_by_whom_is_told_within_two_seconds(ring: Ring, tmp_path: Path) -> None:
    with scheduler(ring) as found:
        cases = {"stranger": "refused the key of stranger", "lost": "does not have the key that", "": "wants keys"}
        key_folder.create(tmp_path / "lost", "lost", "operator", signing=False)
        key_folder.create(tmp_path / "another", "scheduler", "scheduler", signing=False)
        key_folder.add(tmp_path / "lost", "scheduler", tmp_path / "another" / "public.key")
        for name, words in cases.items():
            keys = None if not name else str(tmp_path / "lost") if name == "lost" else ring[name]
            began = time.monotonic()
            with pytest.raises(KeyRefused, match=words) as refused:
                ping(found.address, 10.0, keys)
            assert time.monotonic() - began < 2.0
            assert refused.value.exit_code == 10
    # whichever end gives up first, and ZeroMQ does not always say why
    with Keyed() as made, pytest.raises(KeyRefused, match=r"has no keys|or none at all"):
        ping(made.scheduler(ProcessConfig()), 10.0, ring["operator"])


def test_nobody_connects_to_an_address_that_comes_without_a_key(ring: Ring) -> None:
    context = GuardedContext.of(Security(ring.folder("worker")))
    with open_socket(context, zmq.DEALER) as sock:
        with pytest.raises(KeyRefused, match="comes without a key"):
            Tcp().connect(sock, "tcp://127.0.0.1:1")
        aim(sock, bytes(32), "x")
    context.term()


def test_on_its_line_a_neighbour_may_say_what_lines_are_for_and_nothing_else(ring: Ring) -> None:
    chance, key = random.Random(5), ring.folder("worker").own.public.curve
    others = [kind for kind in TYPES.values() if kind not in rights.TO_WORKER["worker"] | {Ping, Error}]
    with line(ring) as found, contextlib.ExitStack() as peers:
        for number, kind in enumerate(others):
            if number % 10 == 0:  # who says little but what it may not is cut off
                peer = peers.enter_context(KeyedPeer(found.address, ring.folder("other"), key))
            message = extreme(kind, chance)
            peer.say(message, b"12345678" if message.payload else None)
            assert f"the key of a worker may not say {kind.__name__}" in peer.hear(Error).text


def test_while_a_pipeline_meets_nobody_is_refused_who_may_be_of_it_and_then_at_once(ring: Ring) -> None:
    key = ring.folder("worker").own.public.curve
    with line(ring) as found:
        assert found.security is not None
        admission, other = found.security.admission, ring.folder("other").own.public
        with KeyedPeer(found.address, ring.folder("stranger"), key) as stranger:
            assert stranger.until("refused", bound=3.0) == "refused", "all others have met"
        expected = [True]
        admission.admit([])
        admission.expects = lambda: expected[0]
        with (
            KeyedPeer(found.address, ring.folder("other"), key) as friend,
            KeyedPeer(found.address, ring.folder("stranger"), key) as stranger,
        ):
            assert friend.until("in", "refused", bound=1.5) == stranger.until("in", "refused", bound=0.1) == ""
            admission.admit([PublicKeys("worker-1", "worker", other.curve)])
            assert friend.until("in", "refused") == "in"
            expected[:] = [False]
            assert stranger.until("in", "refused", bound=3.0) == "refused"


def test_refusals_are_told_and_a_flood_of_them_is_counted(
    ring: Ring, listener: tuple[Inbox, GuardedContext, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ps.keys")
    _, _, address = listener
    for _ in range(5):
        unlisted(address, ring, "scheduler")
    told = [record for record in caplog.records if "is refused" in record.getMessage()]
    assert len(told) == 1
    assert ring.folder("stranger").own.public.curve.hex() in told[0].getMessage()
