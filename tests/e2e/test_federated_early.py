"""A client may hear of a server that was started again before that server has heard that it is in the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import zmq

from ps.config import JobConfig
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Message, Ping, Pong, Resume, UploadState, View
from ps.protocol.sockets import open_socket
from support.cluster import Process
from support.identity import identify, welcome, with_token

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

BOUND = 20_000
"""Milliseconds."""


def hear(sock: zmq.Socket[Any]) -> Message:
    assert sock.poll(BOUND), "no answer"
    return decode(sock.recv_multipart()[-1])


def test_what_comes_before_the_server_has_joined_is_answered_when_it_has(command: Callable[..., Process]) -> None:
    with (
        zmq.Context() as context,
        open_socket(context, zmq.ROUTER) as router,
        open_socket(context, zmq.DEALER) as client,
    ):
        port = router.bind_to_random_port("tcp://127.0.0.1")
        server = command("server", "--scheduler", f"tcp://127.0.0.1:{port}")
        assert router.poll(BOUND)
        origin = router.recv_multipart()[0]
        client.connect(server.wait_for(r"server at (tcp://\S+)")[1])
        client.send(encode(identify(2)))
        client.send(encode(with_token(Resume(7, 2, 1, 0), 0)))
        client.send(encode(Ping(8)))
        assert isinstance(hear(client), Pong)  # so it has read the Resume
        job = JobConfig.from_dict({"mode": "federated"}).to_dict()
        router.send_multipart([origin, encode(welcome(job=job))])
        router.send_multipart([origin, encode(View(1, "running", "", "", job, ()))])
        assert hear(client) == UploadState(7, 1, ())
