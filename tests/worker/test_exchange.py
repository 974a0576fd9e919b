"""Exchange against a scripted server: the window, lost messages, silence, wrong answers. One thread, real sockets.

The server moves only when the exchange looks for failures (``check``), which it does between its waits.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import zmq

from ps.errors import BadMessage, Evicted, PeerLost, PSError, Refused, ServerLost, VersionMismatch
from ps.protocol.codec import decode, encode
from ps.protocol.messages import (
    Attach,
    Attached,
    Error,
    Inquire,
    Late,
    Message,
    Ok,
    Ping,
    Pull,
    Push,
    Pushed,
    Retire,
    Squares,
    Waiting,
    Weights,
)
from ps.protocol.transport import open_socket
from ps.worker import exchange as exchange_module
from ps.worker import server_link
from ps.worker.batch import Batch
from ps.worker.exchange import Exchange
from ps.worker.store import Traffic
from ps.worker.wire import ZmqWire
from ps.worker.wires import Wires

KB = 1024
MEMBER = 7


class FakeServer:
    """A ROUTER that does what a script says with each message; by default it keeps silent."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.origin = b""
        self.socket = open_socket(context, zmq.ROUTER)
        self.socket.bind("tcp://127.0.0.1:*")
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.script: Callable[[Any], list[Any]] = lambda message: []
        self.heard: list[Any] = []
        self.reading = True

    def turn(self) -> None:
        while self.reading and self.socket.poll(0):
            self.origin, header, *_ = self.socket.recv_multipart()
            message = decode(header)
            self.heard.append(message)
            for reply in self.script(message):
                self.say(*(reply if isinstance(reply, list) else [reply]))

    def say(self, *frames: Any) -> None:
        raw = [encode(frame) if isinstance(frame, Message) else frame for frame in frames]
        self.socket.send_multipart([self.origin, *raw])

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]


class Setup:
    """An exchange with fake servers, which move whenever it looks for failures."""

    def __init__(self, context: zmq.Context[Any], servers: int, window: int, silence_limit: float) -> None:
        self.servers = [FakeServer(context) for _ in range(servers)]
        self.traffic = Traffic()
        self.failure: PSError | None = None
        self.checks = 0
        self.during: Callable[[], None] = lambda: None
        wires = Wires(
            [f"server {rank} (host, pid {rank}) at {server.address}" for rank, server in enumerate(self.servers)],
            [ZmqWire(context, server.address) for server in self.servers],
        )
        self.exchange = Exchange(
            MEMBER,
            wires,
            window=window,
            silence_limit=silence_limit,
            check=self.check,
            traffic=self.traffic,
        )

    def check(self) -> None:
        self.checks += 1
        for server in self.servers:
            server.turn()
        self.during()
        if self.failure is not None:
            raise self.failure

    def push(self, batch: Batch, chunk: int, nbytes: int = KB, server: int = 0, pull: bool = False) -> np.ndarray:
        payload = np.full(nbytes, chunk % 251, np.uint8)
        make = partial(Push, member=MEMBER, chunk=chunk, clock=417, version=0, examples=1.0, scale=1.0, pull=pull)
        self.exchange.submit(batch, server, make, payload, (chunk * nbytes, (chunk + 1) * nbytes))
        return payload

    def pull(self, batch: Batch, chunk: int = 0, nbytes: int = KB) -> None:
        make = partial(Pull, member=MEMBER, chunk=chunk, clock=417)
        self.exchange.submit(batch, 0, make, None, (chunk * nbytes, (chunk + 1) * nbytes))


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Setup]]:
    monkeypatch.setattr(exchange_module, "SLICE", 2)
    monkeypatch.setattr(exchange_module, "INQUIRE", 0.02)
    monkeypatch.setattr(server_link, "INQUIRE", 0.02)
    with contextlib.ExitStack() as stack:
        context: zmq.Context[Any] = zmq.Context()
        stack.callback(context.destroy, linger=0)

        def make(servers: int = 1, window: int = 8 * KB, silence_limit: float = 20.0) -> Setup:
            return Setup(context, servers, window, silence_limit)

        yield make


def pushed(message: Any) -> list[Any]:
    return [Pushed(message.request, message.chunk, 1, 0)] if isinstance(message, Push) else []


def weights(message: Any, nbytes: int = KB, fill: int = 9) -> list[Any]:
    return [[Weights(message.request, message.chunk, 5, 2), bytes([fill]) * nbytes]]


def test_answers_land_in_their_places_with_version_and_staleness(setup: Callable[..., Setup]) -> None:
    job = setup(servers=2)
    for server in job.servers:
        server.script = lambda message: weights(message, fill=message.chunk + 1)
    batch = Batch(into=np.zeros(4 * KB, np.uint8), versions={})
    for chunk in range(4):
        job.push(batch, chunk, server=chunk % 2, pull=True)
    job.exchange.wait(batch)
    assert batch.into is not None
    assert batch.into[::KB].tolist() == [1, 2, 3, 4]
    assert (batch.versions, batch.staleness, batch.done) == ({0: 5, 1: 5, 2: 5, 3: 5}, 2, True)
    assert (job.traffic.bytes_up, job.traffic.bytes_down) == (4 * KB, 4 * KB)
    assert job.traffic.wait_s > 0
    assert job.exchange.since is None


def test_never_more_than_the_window_is_unanswered(setup: Callable[..., Setup]) -> None:
    job = setup(window=4 * KB)
    server, most, answered = job.servers[0], 0, 0

    def answer_when_the_window_is_full() -> None:
        nonlocal most, answered
        unanswered = server.of(Push)[answered:]
        most = max(most, len(unanswered))
        if len(unanswered) >= 4:
            for message in unanswered:
                server.say(*pushed(message))
            answered += len(unanswered)

    job.during = answer_when_the_window_is_full
    batch = Batch()
    for chunk in range(40):
        job.push(batch, chunk)
    job.exchange.wait(batch)
    assert most == 4
    assert [message.chunk for message in server.of(Push)] == list(range(40))


def test_a_request_larger_than_the_window_goes_alone(setup: Callable[..., Setup]) -> None:
    job = setup(window=4 * KB)
    job.servers[0].script = pushed
    batch = Batch()
    for chunk in range(3):
        job.push(batch, chunk, nbytes=10 * KB)
    job.exchange.wait(batch)
    assert len(job.servers[0].of(Push)) == 3


def test_a_server_that_does_not_read_makes_no_memory_grow_and_is_given_up(setup: Callable[..., Setup]) -> None:
    job = setup(window=1 << 20, silence_limit=1.0)
    job.servers[0].reading = False
    batch = Batch()
    payload = np.zeros(1 << 20, np.uint8)
    for chunk in range(2000):  # 2 GB, if they were copied
        make = partial(Push, member=MEMBER, chunk=chunk, clock=1, version=0, examples=1.0, scale=1.0, pull=False)
        job.exchange.submit(batch, 0, make, payload, (0, 1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ServerLost):
        job.exchange.flush(batch)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert job.traffic.bytes_up == 1 << 20


def test_more_small_requests_than_zeromq_queues_do_not_block_for_ever(setup: Callable[..., Setup]) -> None:
    job = setup(window=1 << 30, silence_limit=1.0)
    job.servers.pop().socket.close()
    batch = Batch()
    for chunk in range(3000):  # ZeroMQ keeps 1000
        job.push(batch, chunk, nbytes=16)
    began = time.monotonic()
    with pytest.raises(ServerLost, match=r"server 0 \(host, pid 0\) at tcp://\S+ has answered nothing for 1 s"):
        job.exchange.flush(batch)
    assert time.monotonic() - began < 15


def test_more_small_requests_than_zeromq_queues_all_arrive(setup: Callable[..., Setup]) -> None:
    job = setup(window=1 << 30)
    job.servers[0].script = pushed
    batch = Batch()
    for chunk in range(5000):
        job.push(batch, chunk, nbytes=16)
    job.exchange.wait(batch)
    assert {message.chunk for message in job.servers[0].of(Push)} == set(range(5000))


def test_a_lost_request_is_asked_about_and_sent_again_with_its_payload(setup: Callable[..., Setup]) -> None:
    job = setup()
    lost: list[Any] = []

    def script(message: Any) -> list[Any]:
        match message:
            case Push() if not lost:
                lost.append(message)
                return []
            case Push():
                return pushed(message)
            case Inquire():
                return [Waiting(0, message.requests, 0, ())]
        raise AssertionError(message)

    job.servers[0].script = script
    batch = Batch()
    job.push(batch, 3)
    job.exchange.wait(batch)
    first, again = job.servers[0].of(Push)
    assert first == again
    assert job.servers[0].of(Inquire)[0] == Inquire(0, MEMBER, (first.request,))
    assert job.traffic.bytes_up == 2 * KB


def test_an_answer_that_comes_twice_counts_once_and_its_payload_is_dropped(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.servers[0].script = lambda message: weights(message, fill=1) + weights(message, fill=2)
    into = np.zeros(2 * KB, np.uint8)
    first, second = Batch(into=into), Batch(into=into)
    job.pull(first)
    job.exchange.wait(first)
    job.pull(second, chunk=1)
    job.exchange.wait(second)
    assert into[::KB].tolist() == [1, 1]


def test_a_silent_server_is_lost_within_its_bound_and_stays_so(setup: Callable[..., Setup]) -> None:
    job = setup(silence_limit=0.3)
    batch = Batch()
    job.push(batch, 0)
    for _ in range(2):
        with pytest.raises(ServerLost, match="has answered nothing for 0 s"):
            job.exchange.wait(batch)
    with pytest.raises(ServerLost):
        job.exchange.poll()


def test_a_server_that_waits_for_somebody_is_not_lost(setup: Callable[..., Setup]) -> None:
    job = setup(silence_limit=0.1)
    asked = 0

    def script(message: Any) -> list[Any]:
        nonlocal asked
        if isinstance(message, Push):
            return []
        asked += 1
        if asked < 40:
            return [Waiting(0, (), 418, (3,))]
        return pushed(job.servers[0].of(Push)[0])

    job.servers[0].script = script
    batch = Batch()
    job.push(batch, 0)
    seen: set[tuple[int, ...]] = set()
    job.during = lambda: seen.add(job.exchange.waiting_for)
    job.exchange.wait(batch)
    assert seen == {(), (3,)}
    assert job.exchange.waiting_for == ()


def test_a_server_that_waits_for_nobody_and_says_nothing_is_given_up_in_the_end(setup: Callable[..., Setup]) -> None:
    job = setup(silence_limit=0.1)
    job.servers[0].script = lambda message: [Waiting(0, (), 0, ())] if isinstance(message, Inquire) else []
    batch = Batch()
    job.pull(batch)
    with pytest.raises(ServerLost, match=r"has Pull\(.*\) for 0 s and waits for nobody, but is silent"):
        job.exchange.wait(batch)


def test_time_in_which_this_process_stood_still_is_nobodys_silence(
    setup: Callable[..., Setup], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = setup(silence_limit=10.0)
    real, jump = time.monotonic, 0.0
    monkeypatch.setattr(exchange_module.time, "monotonic", lambda: real() + jump)

    def script(message: Any) -> list[Any]:
        nonlocal jump
        if isinstance(message, Push):
            jump += 1000.0
            return []
        return pushed(job.servers[0].of(Push)[0])

    job.servers[0].script = script
    batch = Batch()
    job.push(batch, 0)
    job.exchange.wait(batch)
    assert batch.done


def test_whoever_waits_says_for_whom(
    setup: Callable[..., Setup], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = setup()
    real, jump = time.monotonic, 0.0
    monkeypatch.setattr(exchange_module.time, "monotonic", lambda: real() + jump)

    def script(message: Any) -> list[Any]:
        nonlocal jump
        if isinstance(message, Push):
            jump = 12.0  # before anybody was asked
            return []
        if jump < 24:
            jump = 24.0
            return [Waiting(0, (), 418, (3, 5))]
        return pushed(job.servers[0].of(Push)[0])

    job.servers[0].script = script
    batch = Batch("clock 417")
    job.push(batch, 0)
    with caplog.at_level(logging.WARNING):
        job.exchange.wait(batch)
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0] == f"waiting 12 s for server 0 (host, pid 0) at {job.servers[0].address}, clock 417"
    assert texts[1] == "waiting 24 s for worker 3, worker 5, clock 417"


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (lambda m: [Weights(m.request, m.chunk, 1, 0)], BadMessage, "wrong number of frames"),
        (lambda m: [[Weights(m.request, m.chunk, 1, 0), b"x" * 5]], BadMessage, "5 bytes for chunk 0, which has 1024"),
        (lambda m: [[Weights(m.request, m.chunk, 1, 0), b"x" * 9999]], BadMessage, "9999 bytes for chunk 0"),
        (lambda m: [[Weights(m.request, 1, 1, 0), b"x" * KB]], BadMessage, r"Weights\(.*\) is no answer to Pull"),
        (lambda m: [[Weights(m.request, 0, 1, 0), b"x" * KB, b""]], BadMessage, "wrong number of frames"),
        (lambda m: [[Pushed(m.request, m.chunk, 1, 0), b"x"]], BadMessage, "wrong number of frames"),
        (lambda m: [Pushed(m.request, m.chunk, 1, 0)], BadMessage, r"Pushed\(.*\) is no answer to Pull"),
        (lambda m: [Squares(m.request, m.chunk, 1.0)], BadMessage, "is no answer to Pull"),
        (lambda m: [Attached(m.request, 1)], BadMessage, "is no answer to Pull"),
        (lambda m: [Late(m.request, m.chunk, 1)], BadMessage, "is no answer to Pull"),
        (lambda m: [Ok(m.request)], BadMessage, "is no answer to Pull"),
        (lambda m: [Ping(m.request)], BadMessage, "is no answer to Pull"),
        (lambda m: [b"HTTP/1.1 400 Bad Request"], BadMessage, "not a message of this protocol"),
        (lambda m: [encode(Ok(m.request))[:2] + b"\x09" + encode(Ok(m.request))[3:]], VersionMismatch, "version 9"),
        (lambda m: [Error(0, "version", "you speak 2, I speak 9")], VersionMismatch, "you speak 2, I speak 9"),
        (lambda m: [Error(0, "bad-message", "malformed")], Refused, "malformed"),
        (lambda m: [Error(m.request, "evicted", "gone")], Evicted, "gone"),
        (lambda m: [Error(m.request, "memory", "no room")], Refused, "no room"),
    ],
)
def test_a_wrong_answer_names_the_server_and_ends_the_wait_for_good(
    setup: Callable[..., Setup], reply: Callable[[Any], list[Any]], kind: type[PSError], text: str
) -> None:
    job = setup()
    job.servers[0].script = lambda message: reply(message) if isinstance(message, Pull) else []
    batch = Batch(into=np.zeros(KB, np.uint8))
    job.pull(batch)
    for _ in range(2):
        with pytest.raises(kind, match=rf"server 0 \(host, pid 0\) at \S+: .*{text}") as raised:
            job.exchange.wait(batch)
        assert type(raised.value) is kind


def test_a_refused_request_fails_its_own_batch_only(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.servers[0].script = lambda m: [Error(m.request, "bad-message", "no")] if m.chunk == 1 else pushed(m)
    bad, good = Batch(), Batch()
    job.push(bad, 1)
    job.push(good, 2)
    job.exchange.wait(good)
    with pytest.raises(Refused):
        job.exchange.wait(bad)


def test_what_ends_the_job_ends_the_wait(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.failure = PeerLost("worker 3 was the last")
    batch = Batch()
    job.push(batch, 0)
    with pytest.raises(PeerLost, match="worker 3 was the last"):
        job.exchange.wait(batch)


def test_a_bounded_wait_is_bounded_and_says_nothing(setup: Callable[..., Setup]) -> None:
    job = setup()
    batch = Batch()
    job.push(batch, 0)
    began = time.monotonic()
    job.exchange.wait_at_most(batch, 0.2)
    assert 0.15 < time.monotonic() - began < 5
    assert not batch.done


def test_all_servers_are_asked_and_the_highest_clock_counts(setup: Callable[..., Setup]) -> None:
    job = setup(servers=3)
    for clock, server in zip((4, 9, 2), job.servers, strict=True):
        server.script = lambda message, clock=clock: [Attached(message.request, clock)]
    batch = job.exchange.ask_all(partial(Attach, member=MEMBER, epoch=1), "leave to begin")
    assert batch.entry == 9


def test_polling_takes_what_is_here_and_never_waits(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.servers[0].script = lambda message: [Ok(message.request)]
    batch = Batch()
    job.exchange.submit(batch, 0, partial(Retire, member=MEMBER))
    deadline = time.monotonic() + 20
    while not batch.done and time.monotonic() < deadline:
        job.exchange.poll()
        job.servers[0].turn()
    assert batch.done
    assert job.traffic.wait_s == 0
