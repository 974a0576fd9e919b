"""SchedulerClient: nobody there, somebody who vanishes, bad news, and requests that must not wait for ever."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from ps.config import JobConfig
from ps.errors import (
    BadMessage,
    ConnectTimeout,
    Evicted,
    JobEnded,
    PeerLost,
    PSError,
    Refused,
    ServerLost,
    VersionMismatch,
)
from ps.protocol.codec import decode, encode
from ps.protocol.membership import Membership
from ps.protocol.messages import (
    BarrierEnter,
    BarrierLeave,
    Error,
    Heartbeat,
    HeartbeatAck,
    Hello,
    InitRequest,
    Leave,
    Message,
    Ok,
    View,
    Welcome,
)
from ps.protocol.sockets import open_socket
from ps.worker import scheduler_client
from ps.worker.scheduler_client import SchedulerClient

BOUND = 20.0


class FakeScheduler:
    """A ROUTER in a thread; ``script`` says what is answered to a message. Stops reading when ``mute``."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.heard: list[Any] = []
        self.mute = False
        self.script: Callable[[Any], list[Any]] = welcome
        self._socket = open_socket(context, zmq.ROUTER)
        self._socket.bind("tcp://127.0.0.1:*")
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            if not self._socket.poll(5):
                continue
            origin, header = self._socket.recv_multipart()
            message = decode(header)
            self.heard.append(message)
            for reply in [] if self.mute else self.script(message):
                self._socket.send_multipart([origin, encode(reply) if isinstance(reply, Message) else reply])
        self._socket.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join(BOUND)

    def wait_for(self, kind: type[Any]) -> Any:
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline:
            for message in self.heard:
                if isinstance(message, kind):
                    return message
            time.sleep(0.005)
        raise AssertionError(f"no {kind.__name__} came")


def view(epoch: int = 1, phase: str = "running", code: str = "", reason: str = "") -> View:
    return View(epoch, phase, code, reason, JobConfig().to_dict(), ())


def welcome(message: Any) -> list[Any]:
    match message:
        case Hello():
            return [Welcome(0, 7, 3, 10.0, {}), view()]
        case Heartbeat():
            return [HeartbeatAck(1)]
        case Leave():
            return [Ok(message.request)]
    return []


def instead(kind: type[Any], *replies: Any) -> Callable[[Any], list[Any]]:
    return lambda message: list(replies) if isinstance(message, kind) else welcome(message)


class Joined:
    def __init__(self, context: zmq.Context[Any], connect_timeout: float = 10.0) -> None:
        self.scheduler = FakeScheduler(context)
        self.reports = 0
        membership = Membership(
            "worker",
            self.scheduler.address,
            rank=None,
            addresses=(),
            script={},
            connect_timeout=connect_timeout,
            now=time.monotonic(),
        )
        self.membership = membership
        self.make = lambda: SchedulerClient(context, membership, self.report)

    def report(self) -> dict[str, Any]:
        self.reports += 1
        return {"clock": 5}


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[SchedulerClient, FakeScheduler]]]:
    monkeypatch.setattr(scheduler_client, "TICK", 0.01)
    monkeypatch.setattr(scheduler_client, "RETRY", 0.05)
    with contextlib.ExitStack() as stack:
        context: zmq.Context[Any] = zmq.Context()
        stack.callback(context.destroy, linger=0)

        def make(
            script: Callable[[Any], list[Any]] = welcome, connect_timeout: float = 10.0
        ) -> tuple[SchedulerClient, FakeScheduler]:
            made = Joined(context, connect_timeout)
            made.scheduler.script = script
            stack.callback(made.scheduler.close)
            client = made.make()
            stack.callback(client.close, None)
            return client, made.scheduler

        yield make


def running(client: SchedulerClient, limit: float = BOUND) -> View:
    return client.wait_until(lambda view: view.phase == "running", lambda view, seconds: "waiting", limit)


def meet(client: SchedulerClient, limit: float = BOUND) -> int:
    return client.request(
        lambda request, member: BarrierEnter(request, member, 4), BarrierLeave, "all workers at the barrier", limit
    ).clock


def never(request: int, member: int) -> Message:
    return Leave(request, member, {})


def until_failed(client: SchedulerClient) -> None:
    """Raise what ends the membership."""
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        client.check()
        time.sleep(0.005)
    raise AssertionError("nothing was raised")


def test_a_member_has_a_rank_a_view_and_a_heartbeat_with_its_report(joined: Any) -> None:
    client, scheduler = joined()
    assert running(client).phase == "running"
    assert (client.member, client.rank) == (7, 3)
    report = scheduler.wait_for(Heartbeat).report
    assert (report["clock"], set(report)) == (5, {"clock", "kernels", "sent_at", "software"})
    assert client.silence < BOUND


def test_a_scheduler_that_is_not_there_is_named_with_what_to_try(joined: Any) -> None:
    client, scheduler = joined(lambda message: [], connect_timeout=0.2)
    text = f"no reply from the scheduler at {scheduler.address} after 0.2 s. Is it up? Try: psctl ping tcp://"
    with pytest.raises(ConnectTimeout, match=re.escape(text)):
        running(client)


def test_a_scheduler_that_vanishes_before_the_job_is_complete_is_no_endless_wait(joined: Any) -> None:
    client, scheduler = joined(instead(Hello, Welcome(0, 7, 3, 10.0, {}), view(phase="waiting")))
    scheduler.wait_for(Heartbeat)
    scheduler.mute = True
    with pytest.raises(ConnectTimeout, match=r"answered once, but no more for 0.3 s.*psctl ping"):
        running(client, limit=0.3)


def test_a_scheduler_that_vanishes_later_ends_nothing_but_the_requests_to_it(joined: Any) -> None:
    client, scheduler = joined()
    running(client)
    scheduler.mute = True
    with pytest.raises(
        PeerLost, match=r"waited 0.3 s for all workers at the barrier, but the scheduler at \S+ is silent"
    ):
        meet(client, limit=0.3)
    client.check()
    scheduler.mute = False
    scheduler.script = lambda m: [BarrierLeave(m.request, 9)] if isinstance(m, BarrierEnter) else welcome(m)
    assert meet(client) == 9


def test_a_scheduler_that_lost_its_memory_counts_as_silent(joined: Any) -> None:
    client, scheduler = joined()
    running(client)
    scheduler.script = lambda message: [Error(0, "unknown", "who are you?")]
    with pytest.raises(PeerLost, match="is silent"):
        meet(client, limit=0.3)


def test_a_request_is_repeated_under_its_number_until_it_is_answered(joined: Any) -> None:
    seen: list[int] = []

    def script(message: Any) -> list[Any]:
        if not isinstance(message, BarrierEnter):
            return welcome(message)
        seen.append(message.request)
        return [BarrierLeave(message.request, 8)] * 2 if len(seen) == 3 else []

    client, _ = joined(script)
    running(client)
    assert meet(client) == 8
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_a_wait_says_for_what(joined: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_client, "TELL", 0.1)
    client, _ = joined()
    running(client)
    with caplog.at_level(logging.WARNING), pytest.raises(PeerLost):
        client._membership.unknown = True
        meet(client, limit=0.35)
    assert "waiting 0 s for all workers at the barrier" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (Error(0, "evicted", "worker 3 was declared dead"), Evicted, "worker 3 was declared dead"),
        (Error(0, "over", "the job has failed"), Refused, "the job has failed"),
        (Error(0, "ended", "this job has ended"), JobEnded, "this job has ended"),
        (Error(0, "version", "you speak 1"), VersionMismatch, "you speak 1"),
        (view(2, "failed", "server-lost", "server 1 died; its part of the model is gone"), ServerLost, "server 1 died"),
        (view(2, "failed", "timeout", "waited 120 s for all members"), ConnectTimeout, "waited 120 s for all members"),
        (view(2, "failed", "no-worker", "no worker is left"), PeerLost, "no worker is left"),
        (b"HTTP/1.1 400", BadMessage, r"the scheduler at tcp://\S+: not a message of this protocol"),
    ],
)
def test_bad_news_is_raised_by_every_wait_and_kept(joined: Any, reply: Any, kind: type[PSError], text: str) -> None:
    client, scheduler = joined()
    running(client)
    scheduler.script = lambda message: [reply]
    for wait in (meet, until_failed, lambda client: client.request(never, Ok, "nothing", BOUND)):
        with pytest.raises(kind, match=text) as raised:
            wait(client)
        assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda request: Error(request, "layout", "worker 3 has w"), PSError),
        (lambda request: Error(request, "unknown", "who are you?"), Refused),
        (lambda request: Ok(request), BadMessage),
    ],
)
def test_an_answer_that_is_none_ends_its_request_only(joined: Any, answer: Any, kind: type[PSError]) -> None:
    client, _ = joined(lambda m: [answer(m.request)] if isinstance(m, BarrierEnter) else welcome(m))
    running(client)
    with pytest.raises(kind):
        meet(client)
    client.check()


def test_a_goodbye_is_said_until_it_is_heard_and_closing_twice_is_nothing(joined: Any) -> None:
    client, scheduler = joined()
    running(client)
    heard: list[Any] = []
    scheduler.script = lambda m: heard.append(m) or ([Ok(m.request)] if len(heard) > 2 else [])
    client.leave({"steps": 3})
    client.close()
    assert len([m for m in heard if isinstance(m, Leave) and m.report == {"steps": 3}]) >= 2


def test_a_goodbye_that_nobody_hears_is_given_up(joined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_client, "MOST", 0.5)
    client, scheduler = joined()
    running(client)
    scheduler.mute = True
    began = time.monotonic()
    client.leave({})
    assert time.monotonic() - began < BOUND


def test_a_client_that_was_declared_dead_says_again_as_its_new_self_what_is_not_answered(joined: Any) -> None:
    job = JobConfig(mode="federated").to_dict()
    names = iter((7, 8))

    def seats(message: Any) -> list[Any]:
        if isinstance(message, Hello):
            return [Welcome(0, next(names), 3, 10.0, {}), View(1, "running", "", "", job, ())]
        if message.member == 7 and not isinstance(message, Heartbeat):
            return [Error(message.request, "evicted", "worker 3 was declared dead"), Error(0, "evicted", "once more")]
        return [BarrierLeave(message.request, 5)] if isinstance(message, BarrierEnter) else welcome(message)

    client, scheduler = joined(seats)
    running(client)
    assert meet(client) == 5 and client.member == 8
    entered = [m.member for m in scheduler.heard if isinstance(m, BarrierEnter)]
    assert list(dict.fromkeys(entered)) == [7, 8], "it may say so more than once"
    client.check()


def test_whoever_hears_that_the_job_failed_says_goodbye_at_once(joined: Any) -> None:
    client, scheduler = joined(instead(Heartbeat, view(2, "failed", "no-worker", "no worker is left")))
    assert scheduler.wait_for(Leave).report["failure"] == "the job failed"
    with pytest.raises(PeerLost):
        until_failed(client)


def test_a_message_that_cannot_be_sent_is_raised_where_it_was_made(joined: Any) -> None:
    client, _ = joined()
    running(client)
    with pytest.raises(BadMessage, match="the limit is"):
        client.request(
            lambda request, member: InitRequest(request, member, b"x" * (5 << 20)), Ok, "whose values", BOUND
        )
    client.check()


def test_a_bug_in_the_report_is_an_error_and_no_silence(joined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = joined()
    running(client)

    def broken() -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr(client, "_report", broken)
    with pytest.raises(PSError, match=r"the connection to the scheduler broke: ZeroDivisionError\(\)"):
        until_failed(client)


def test_a_scheduler_that_says_more_than_is_read_does_not_keep_the_heartbeat_from_beating(
    joined: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_client, "MOST_TAKEN", 10)
    client, scheduler = joined()
    running(client)
    taken, at_once, take, tick = 0, [0], client._take, client._membership.tick

    def counted(message: Message) -> None:
        nonlocal taken
        taken += 1
        take(message)

    def ticked(now: float) -> list[Message]:
        nonlocal taken
        at_once.append(taken)
        taken = 0
        messages: list[Message] = tick(now)
        return messages

    monkeypatch.setattr(client, "_take", counted)
    monkeypatch.setattr(client._membership, "tick", ticked)
    scheduler.script = instead(BarrierEnter, *[HeartbeatAck(1)] * 500, BarrierLeave(1, 4))
    assert meet(client) == 4
    assert 0 < max(at_once) <= 10
