"""Exchange when nothing comes: lost messages, silent servers, and servers that wait for somebody."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.errors import ServerLost
from ps.protocol.messages import (
    Error,
    Inquire,
    Message,
    Ok,
    Push,
    Waiting,
)
from ps.protocol.messages.data import NOT_YET
from ps.worker import exchange as exchange_module
from ps.worker.batch import Batch
from ps.worker.landing import Landing
from support.fakeserver import KB, MEMBER, Setup, pushed, weights


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
    first, *again = job.servers[0].of(Push)
    assert again and {first} == {*again}, "on a busy machine more than once"
    assert job.servers[0].of(Inquire)[0] == Inquire(0, MEMBER, (first.request,))
    assert job.traffic.bytes_up == (1 + len(again)) * KB


def test_an_answer_that_comes_twice_counts_once_and_its_payload_is_dropped(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.servers[0].script = lambda message: weights(message, fill=1) + weights(message, fill=2)
    into = np.zeros(2 * KB, np.uint8)
    first, second = Batch(landing=Landing(into, job.traffic)), Batch(landing=Landing(into, job.traffic))
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
    monkeypatch.setattr(job.exchange, "_now", lambda: real() + jump)

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
    monkeypatch.setattr(job.exchange, "_now", lambda: real() + jump)

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


def test_a_server_whose_news_are_late_is_waited_for_by_name_and_not_for_ever(
    setup: Callable[..., Setup], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ps.worker.exchange.INQUIRE", 0.01)
    monkeypatch.setattr(exchange_module, "TELL", 0.05)
    job = setup(silence_limit=4.0)
    job.servers[0].script = lambda message: [Waiting(0, (), NOT_YET, ())] if isinstance(message, Inquire) else []
    batch = Batch("leave to begin")
    job.push(batch, 0)
    with pytest.raises(ServerLost, match=r"server 0 .* has not heard of this worker for 16 s.*reach the scheduler"):
        job.exchange.wait(batch)
    assert "to hear of this worker from the scheduler, leave to begin" in caplog.text


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (lambda message: [Error(message.request, "stranger", "who are you?")], "has not known this worker for 1 s"),
        (lambda message: [Ok(999)], "waits for nobody, but is silent"),
        (lambda message: [Waiting(999, (), 0, ())] if isinstance(message, Push) else [Ok(0)], "but is silent"),
    ],
    ids=["a stranger is all that this is to it", "other things than answers", "nothing about what it was asked"],
)
def test_a_server_that_talks_and_never_answers_is_given_up(
    setup: Callable[..., Setup], script: Callable[[Any], list[Message]], why: str
) -> None:
    job = setup(silence_limit=0.3)
    job.servers[0].script = script
    job.during = lambda: job.servers[0].say(Ok(998)) if job.servers[0].origin else None
    batch = Batch()
    job.push(batch, 0)
    began = time.monotonic()
    with pytest.raises(ServerLost, match=why):
        job.exchange.wait(batch)
    assert time.monotonic() - began < 15


def test_what_a_server_misses_is_sent_again_once_however_often_it_is_named(setup: Callable[..., Setup]) -> None:
    job = setup()
    server = job.servers[0]
    server.script = lambda message: (
        [Waiting(0, message.requests * 1000, 0, ())]
        if isinstance(message, Inquire)
        else pushed(message)
        if len(server.of(Inquire))
        else []
    )
    batch = Batch()
    job.push(batch, 3)
    job.exchange.wait(batch)
    assert 2 <= len(server.of(Push)) <= 1 + len(server.of(Inquire))


def test_a_server_that_says_more_than_is_read_does_not_keep_a_worker_from_ending(
    setup: Callable[..., Setup], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = setup(silence_limit=60.0)
    batch = Batch()
    job.push(batch, 3)
    job.exchange.send()
    while not job.servers[0].origin:
        job.servers[0].turn()
    heard = 0

    def flood() -> None:
        nonlocal heard
        heard += 1
        assert heard < 100_000, "nothing else is looked after"
        for _ in range(2):
            job.servers[0].say(Ok(999))

    for _ in range(100):
        flood()
    monkeypatch.setattr(job.exchange._queues[0], "heard", flood)
    job.failure = ServerLost("it is over")
    with pytest.raises(ServerLost, match="it is over"):
        job.exchange.wait(batch)


def test_a_line_about_a_wait_names_some_of_those_that_are_waited_for(setup: Callable[..., Setup]) -> None:
    job = setup()
    job.exchange._queues[0].waits_for = tuple(range(20_000))
    assert job.exchange.awaited.endswith("worker 7, 19992 more")
