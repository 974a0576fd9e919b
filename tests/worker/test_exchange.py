"""Exchange against scripted servers: the window, the answers, the wrong ones, what ends a wait."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ps.errors import BadMessage, Evicted, PeerLost, PSError, Refused, ServerLost, VersionMismatch
from ps.protocol.codec import encode
from ps.protocol.messages import (
    Attach,
    Attached,
    Error,
    Inquire,
    Late,
    NormPart,
    Ok,
    Ping,
    Pull,
    Push,
    Pushed,
    Suspend,
    Weights,
)
from ps.worker.batch import Batch
from ps.worker.landing import Landing
from support.fakeserver import KB, MEMBER, Setup, pushed, weights


def test_answers_land_in_their_places_with_version_and_staleness(setup: Callable[..., Setup]) -> None:
    job = setup(servers=2)
    for server in job.servers:
        server.script = lambda message: [] if isinstance(message, Inquire) else weights(message, fill=message.chunk + 1)
    into, versions = np.zeros(4 * KB, np.uint8), dict[int, int]()
    batch = Batch(landing=Landing(into, job.traffic, versions))
    for chunk in range(4):
        job.push(batch, chunk, server=chunk % 2, pull=True)
    job.exchange.wait(batch)
    assert into[::KB].tolist() == [1, 2, 3, 4]
    assert (versions, batch.staleness, batch.done) == ({0: 5, 1: 5, 2: 5, 3: 5}, 2, True)
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
        (lambda m: [NormPart(m.request, m.chunk, 1.0)], BadMessage, "is no answer to Pull"),
        (lambda m: [Attached(m.request, 1)], BadMessage, "is no answer to Pull"),
        (lambda m: [Late(m.request, m.chunk, 1)], BadMessage, "is no answer to Pull"),
        (lambda m: [Ok(m.request)], BadMessage, "is no answer to Pull"),
        (lambda m: [Ping(m.request)], BadMessage, "is no answer to Pull"),
        (lambda m: [b"HTTP/1.1 400 Bad Request"], BadMessage, "not a message of this protocol"),
        (lambda m: [encode(Ok(m.request))[:2] + b"\x63" + encode(Ok(m.request))[3:]], VersionMismatch, "version 99"),
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
    batch = Batch(landing=Landing(np.zeros(KB, np.uint8), job.traffic))
    job.pull(batch)
    for _ in range(2):
        with pytest.raises(kind, match=rf"server 0 \(host, pid 0\) at \S+: .*{text}") as raised:
            job.exchange.wait(batch)
        assert type(raised.value) is kind


def test_a_refused_request_fails_its_own_batch_only(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.servers[0].script = lambda m: (
        [Error(m.request, "bad-message", "no")] if m == job.servers[0].of(Push)[0] else pushed(m)
    )
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


def test_the_answers_of_all_servers_are_there_when_they_were_asked(setup: Callable[..., Setup]) -> None:
    job = setup(servers=3)
    for clock, server in zip((4, 9, 2), job.servers, strict=True):
        server.script = lambda message, clock=clock: (
            [] if isinstance(message, Inquire) else [Attached(message.request, clock)]
        )
    batch = Batch("leave to begin")
    for server in job.exchange.servers:
        job.exchange.submit(batch, server, partial(Attach, member=MEMBER, epoch=1))
    job.exchange.wait(batch)
    assert sorted(answer.clock for answer in batch.answers) == [2, 4, 9]  # type: ignore[attr-defined]


def test_polling_takes_what_is_here_and_never_waits(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.servers[0].script = lambda message: [] if isinstance(message, Inquire) else [Ok(message.request)]
    batch = Batch()
    job.exchange.submit(batch, 0, partial(Suspend, member=MEMBER))
    deadline = time.monotonic() + 20
    while not batch.done and time.monotonic() < deadline:
        job.exchange.poll()
        job.servers[0].turn()
    assert batch.done
    assert job.traffic.wait_s == 0


def test_whoever_has_lost_all_servers_waits_without_working(setup: Callable[..., Setup]) -> None:
    job = setup()
    batch = Batch()
    job.push(batch, 0)
    job.exchange.poll()
    job.exchange._queues[0].channel.closed = True  # type: ignore[misc]
    job.checks = 0
    job.exchange.wait_at_most(batch, 0.2)
    assert 0 < job.checks < 0.2 / 0.002 + 2
    assert not job.exchange._poller.sockets
