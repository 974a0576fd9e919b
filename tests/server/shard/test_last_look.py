"""Promises of the last weights to those who follow: no more at a time than a socket keeps, until they are there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps.protocol.layout import Layout
from ps.protocol.messages import Ping, Received
from ps.protocol.messages.following import Peeked
from ps.server.loan import SENT, Loan
from ps.server.send import Send
from ps.server.shard import last_look as module
from ps.server.shard.last_look import MOST_CHUNKS, send_last

CHUNK = Layout.of({"w": np.zeros(4, np.float32)}).chunks(1, 1024)[0]
WEIGHTS = np.zeros(4, np.float32)


class Reader:
    """One who follows, over a socket that keeps so many messages; it says what it has ``slowly``, or never."""

    def __init__(self, chunks: int, slowly: int = 1) -> None:
        self.chunks, self.slowly = chunks, slowly
        self.waiting: list[int] = []
        self.got: list[int] = []
        self.turns = self.most = 0

    def sends(self) -> Iterator[Send]:
        for index in range(self.chunks):
            yield Send(b"reader", Peeked(0, 3, index, True), Loan(CHUNK, WEIGHTS))

    def perform(self, sends: list[Send]) -> None:
        for send in sends:
            assert isinstance(send.message, Peeked) and send.loan is not None
            send.loan.tracker = SENT  # it has left this process
            self.waiting.append(send.message.chunk)
        self.most = max(self.most, len(self.waiting))

    def receive(self) -> Iterator[tuple[Any, Any, Any]]:
        self.turns += 1
        yield b"somebody", Ping(1), None
        if self.slowly and self.turns % self.slowly == 0 and self.waiting:
            self.got.append(self.waiting.pop(0))
            yield b"somebody", Received(1, self.got[-1]), None
            yield b"reader", Received(1, self.got[-1]), None


def test_it_is_waited_for_until_all_is_there_and_no_more_is_under_way_than_a_socket_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "NAP", 0.0)
    reader = Reader(3 * MOST_CHUNKS, slowly=2)
    send_last(reader.sends(), reader.perform, reader.receive)
    assert reader.got == list(range(reader.chunks))
    assert reader.most == MOST_CHUNKS


def test_who_reads_slowly_is_waited_for_and_who_does_not_read_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.1)
    slow, dead = Reader(20, slowly=10), Reader(20, slowly=0)
    began = time.monotonic()
    send_last(slow.sends(), slow.perform, slow.receive)
    assert slow.got == list(range(20)) and time.monotonic() - began > 0.1
    began = time.monotonic()
    send_last(dead.sends(), dead.perform, dead.receive)
    assert not dead.got and 0.1 <= time.monotonic() - began < 5


def test_who_says_that_it_goes_is_sent_no_more() -> None:
    reader = Reader(3 * MOST_CHUNKS, slowly=0)
    began = time.monotonic()
    send_last(reader.sends(), reader.perform, lambda: iter([(b"reader", Received(1, -1), None)] * (reader.most > 9)))
    assert reader.most == 10 and time.monotonic() - began < module.LONGEST
