"""Promises of keys to those who are listed: whoever is not costs them next to nothing, however many they are."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from ps.errors import KeyRefused
from ps.protocol import descriptor_guard, query
from ps.protocol.codec import encode
from ps.protocol.handshake import FAILURES, LASTING
from ps.protocol.messages import Ping, Pong, Status, StatusRequest
from ps.protocol.query import ping
from support.keyed import Ring
from support.keyed_job import Job, joined

AT_ONCE, IN_ALL = 250, 1000
"""Unlisted connections: each takes open files of this process at both of its ends."""
SOON = 10.0
"""Seconds on a busy machine; it takes hundredths of one."""


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    made = Ring(tmp_path / "keys", server="server", worker="worker", other="worker", operator="operator")
    made.add("stranger", "worker", listed=False)
    made.add("another", "operator")
    return made


def crowd(context: zmq.Context[Any], ring: Ring, to: str, address: str) -> list[Any]:
    """Have as many as are tried at once connect, and try again for as long as they may."""
    own, expected = ring.folder("stranger").own, ring.folder(to).own.public.curve
    made = []
    for _ in range(AT_ONCE):
        sock = context.socket(zmq.DEALER)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(own.public.curve))
        sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(own.curve))
        sock.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(expected))
        sock.connect(address)
        made.append(sock)
    return made


@pytest.mark.parametrize("to", ["scheduler", "server"])
def test_a_thousand_who_are_not_listed_keep_nobody_out_and_nobody_waiting(ring: Ring, to: str) -> None:
    with Job(ring) as job, job.peer("worker", to) as friend, job.peer("other") as member:
        friend.say(Ping(0))
        assert friend.hear(Pong)
        joined(member)
        for number in range(1, IN_ALL // AT_ONCE + 1):
            context: zmq.Context[Any] = zmq.Context()
            strangers = crowd(context, ring, to, job.address if to == "scheduler" else job.there)
            began = time.monotonic()
            with job.peer("other", to) as late:
                assert late.until("in", "refused") == "in"
            for question in range(200 * number, 200 * number + 200):
                friend.say(Ping(question))
                friend.hear(Pong, lambda pong, asked=question: pong.request == asked)  # type: ignore[misc]
            assert time.monotonic() - began < SOON
            assert not any(sock.poll(0) for sock in strangers)
            context.destroy(linger=0)
        member.say(StatusRequest(9))
        status = member.hear(Status).status
        assert not status["deaths"] and [row["state"] for row in status["workers"]] == ["live"]


def test_who_finds_no_room_is_not_told_that_his_key_is_wrong_and_comes_again(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptor_guard, "room", lambda limit: 12)
    with Job(ring) as job, contextlib.ExitStack() as crowd, ThreadPoolExecutor(1) as beside:
        host, _, port = job.address.removeprefix("tcp://").rpartition(":")
        joined(crowd.enter_context(job.peer("worker")))  # the server is here, too
        mute = [crowd.enter_context(socket.create_connection((host, int(port)))) for _ in range(14)]
        asked = beside.submit(ping, job.address, 30.0, ring["other"])
        for _ in range(14):
            peer = crowd.enter_context(job.peer("other"))
            peer.until("failed", "cut", bound=2.0)  # it may be in, and takes the room of the next one
            if peer.seen["failed"] + peer.seen["cut"]:
                break
        end = time.monotonic() + SOON
        while peer.seen["failed"] + peer.seen["cut"] < 2 * FAILURES and time.monotonic() < end:
            peer.until("failed", "cut", bound=1.0)
        assert peer.seen["failed"] + peer.seen["cut"] and not peer.seen["refused"]
        time.sleep(2 * LASTING)
        for each in mute:
            each.close()
        assert asked.result(SOON)["role"] == "scheduler"
        with pytest.raises(KeyRefused, match="does not have the key"):
            ping(job.there, 30.0, ring["another"])


def test_who_is_refused_before_he_has_said_anything_is_told_so_and_does_not_wait_for_ever(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(message: Any) -> bytes:
        time.sleep(0.5)  # ZeroMQ has given the connection up by then, and takes nothing more
        return encode(message)

    with Job(ring) as job:
        monkeypatch.setattr(query, "encode", slowly)
        with pytest.raises(KeyRefused, match="wants keys"):
            ping(job.address, 20.0)
