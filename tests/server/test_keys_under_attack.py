"""Promises of keys to those who are listed: whoever is not costs them next to nothing, however many they are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from ps.protocol.messages import Ping, Pong, Status, StatusRequest
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
