"""ShmChannel: the handshake in which memory is handed over, and messages on a line that may have no room."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.errors import Unshared
from ps.protocol.codec import encode
from ps.protocol.messages import Error, Ok, Pull, Share, Shared
from ps.protocol.segment import PAGE, Segment
from ps.protocol.transports import shm_channel as module
from ps.protocol.transports.shm_channel import ShmChannel
from ps.protocol.worker_memory import WorkerMemory
from ps.testing import LocalCluster
from support.held import descriptors
from support.identity import identify
from support.lineserver import Fake, framed, null, say

Start = Callable[..., LocalCluster]
NBYTES = 2 * PAGE


# The handshake


def test_memory_is_handed_over_and_a_home_is_taken_when_there_is_one(fake: Fake) -> None:
    home = Segment.create(NBYTES)
    got: list[Any] = []

    def answer(sock: socket.socket, data: bytes, fds: list[int]) -> None:
        got.append((data, [os.fstat(fd).st_size for fd in fds]))
        socket.send_fds(sock, [framed(encode(Shared(0, True)))], [home.fd])

    server = fake(answer)
    memory = WorkerMemory.create(NBYTES)
    channel = ShmChannel.open(server.path, memory, Segment.create(NBYTES), identify(7))
    assert server.said == identify(7)
    assert got == [(framed(encode(Share(0, 7, NBYTES, True))), [WorkerMemory.size(NBYTES), NBYTES])]
    assert channel.weights_memory is not None and channel.weights_memory.identity == home.identity
    channel.close()
    assert channel.closed


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (say(), "closed the line"),
        (say(framed(encode(Error(0, "shm", "no room here")))), "no room here"),
        (say(framed(encode(Ok(0)))), "it answered Ok"),
        (say(framed(b"junk")), "does not begin"),
        (say(struct.pack("<I", 1 << 30)), "the limit is"),
        (say(framed(encode(Shared(0, True))), fds=null), "no shared memory"),
        (say(framed(encode(Shared(0, True)))[:5]), "closed the line"),
    ],
    ids=["gone", "refused", "another answer", "junk", "huge", "a home that is none", "half an answer"],
)
def test_a_server_that_does_not_take_it_is_named_with_its_reason_and_nothing_stays_open(
    fake: Fake, answer: Any, why: str
) -> None:
    server = fake(answer)
    memory = WorkerMemory.create(NBYTES)
    before = descriptors()
    with pytest.raises(Unshared, match=f"{server.path}: .*{why}"):
        ShmChannel.open(server.path, memory, None, identify(7))
    server._thread.join(10)
    assert descriptors() == before


def test_open_files_that_come_with_a_no_are_closed(fake: Fake) -> None:
    server = fake(say(framed(encode(Shared(0, False))), fds=null))
    memory = WorkerMemory.create(NBYTES)
    before = descriptors()
    channel = ShmChannel.open(server.path, memory, None, identify(7))
    assert channel.weights_memory is None
    channel.close()
    server._thread.join(10)
    assert descriptors() == before


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE", 0.2)
    server = fake(None)
    began = time.monotonic()
    with pytest.raises(Unshared, match=r"no answer within 0.2 s"):
        ShmChannel.open(server.path, WorkerMemory.create(NBYTES), None, identify(7))
    assert time.monotonic() - began < 5


def test_a_server_that_dribbles_is_not_waited_for_for_ever(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE", 0.3)
    stop = threading.Event()

    def answer(sock: socket.socket, _: bytes, got: list[int]) -> None:
        frame = struct.pack("<I", 1000) + bytes(1000)
        with contextlib.suppress(OSError):
            for byte in frame:
                sock.sendall(bytes([byte]))
                if stop.wait(0.02):
                    return

    server = fake(answer)
    with pytest.raises(Unshared, match="no answer within"):
        ShmChannel.open(server.path, WorkerMemory.create(NBYTES), None, identify(7))
    stop.set()


# What is sent


def test_what_lies_in_the_shared_region_is_not_copied_and_anything_else_is(fake: Fake) -> None:
    hold = threading.Event()

    def answer(sock: socket.socket, _: bytes, got: list[int]) -> None:
        sock.sendall(framed(encode(Shared(0, False))))
        hold.wait(10)

    server = fake(answer)
    memory = WorkerMemory.create(NBYTES)
    channel = ShmChannel.open(server.path, memory, None, identify(7))
    gradients = memory.array("gradients")
    own = np.full(25, 2.0, np.float32)
    assert channel.send(b"push", own, (400, 500))
    assert set(gradients[400:500].view(np.float32)) == {2.0} and not gradients[:400].any() and not gradients[500:].any()
    mine = gradients[800:900].view(np.float32)
    mine[:] = 3
    assert channel.send(b"push", mine, (800, 900)) and set(mine) == {3}
    hold.set()
    channel.close()


def test_a_line_without_room_says_so_and_says_when_it_is_stuck(fake: Fake) -> None:
    go = threading.Event()
    total = 0

    def answer(sock: socket.socket, _: bytes, got: list[int]) -> None:
        nonlocal total
        sock.sendall(framed(encode(Shared(0, False))))
        assert go.wait(10)
        while data := sock.recv(1 << 20):
            total += len(data)

    server = fake(answer)
    channel = ShmChannel.open(server.path, WorkerMemory.create(NBYTES), None, identify(7))
    header, sent = encode(Pull(1, 1, 0, 0, False)), 0
    while channel.send(header):
        sent += 1
        assert sent < 100_000
    assert channel.stuck
    go.set()
    end = time.monotonic() + 10
    while channel.stuck and time.monotonic() < end:
        channel.flush()
    assert not channel.stuck and channel.send(header)
    channel.close()
    server._thread.join(10)
    assert total == (sent + 1) * (4 + len(header))


def test_a_closed_line_takes_what_is_sent_and_is_not_stuck(fake: Fake) -> None:
    server = fake(say(framed(encode(Shared(0, False)))))
    channel = ShmChannel.open(server.path, WorkerMemory.create(NBYTES), None, identify(7))
    server._thread.join(10)
    while not channel.closed:
        assert channel.send(encode(Pull(1, 1, 0, 0, False))) or channel.closed
    assert not channel.stuck and channel.send(b"x") and list(channel.receive()) == []
