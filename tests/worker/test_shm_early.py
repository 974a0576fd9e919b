"""A server that has not heard of the job yet says so, and is waited for; it is not one that shares nothing."""

from __future__ import annotations

import socket
import time

import pytest

from ps.errors import Unshared
from ps.protocol.codec import encode
from ps.protocol.messages import Shared, Waiting
from ps.protocol.messages.data import NOT_YET
from ps.protocol.segment import PAGE
from ps.protocol.transports import shm_channel as module
from ps.protocol.transports.shm_channel import ShmChannel
from ps.protocol.worker_memory import WorkerMemory
from support.identity import identify
from support.lineserver import Fake, framed


def test_not_yet_is_waited_for_longer_than_silence(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE", 0.2)
    asked = time.monotonic()

    def answer(sock: socket.socket, _: bytes, got: list[int]) -> None:
        sock.sendall(framed(encode(Waiting(0, (), NOT_YET, ()))))
        while time.monotonic() < asked + 0.5:
            time.sleep(0.05)
        sock.sendall(framed(encode(Shared(0, False))))

    channel = ShmChannel.open(fake(answer).path, WorkerMemory.create(PAGE), None, identify(7))
    assert not channel.closed
    channel.close()


def test_not_yet_is_not_waited_for_for_ever(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEWS", 0.2)

    def answer(sock: socket.socket, _: bytes, got: list[int]) -> None:
        sock.sendall(framed(encode(Waiting(0, (), NOT_YET, ()))))
        sock.recv(1)  # until the other end is closed

    with pytest.raises(Unshared, match=r"no answer within 0.2 s"):
        ShmChannel.open(fake(answer).path, WorkerMemory.create(PAGE), None, identify(7))
