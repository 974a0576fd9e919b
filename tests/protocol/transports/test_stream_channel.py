"""Promises of a StreamChannel: what is half here is nowhere, and who is not there, or gone, is found out."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ps.errors import Unshared
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Identify, Pong, Pull, Push, Waiting, Weights
from ps.protocol.transports import stream_channel as module
from ps.protocol.transports.stream_channel import StreamChannel
from support.held import descriptors
from support.identity import identify
from support.stream_desk import StreamDesk, streamed


class Served:
    """A StreamDesk that looks on a thread of its own while a channel is opened."""

    def __init__(self, directory: Path) -> None:
        self.desk = StreamDesk(directory)
        self.channels: list[StreamChannel] = []

    def open(self) -> StreamChannel:
        """Return a channel, whose Identify was heard."""
        self.channels.append(StreamChannel(self.desk.path, identify(7)))
        return self.channels[-1]

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.is_set():
                self.heard += self.desk.look(1)

        self.heard: list[tuple[object, object, object]] = []
        thread = threading.Thread(target=look)
        thread.start()
        yield
        over.set()
        thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    for channel in made.channels:
        channel.close()
    made.desk.listener.close()


def opened(served: Served) -> tuple[StreamChannel, socket.socket]:
    """Return a channel, and the server's end of it, which no listener reads any more."""
    with served.looking():
        channel = served.open()
    [connection] = served.desk.listener._by_fd.values()
    sock = socket.socket(fileno=os.dup(connection.fd))
    sock.setblocking(True)
    return channel, sock


def test_it_says_who_it_is_and_goes_on_once_somebody_is_there(served: Served) -> None:
    with served.looking():
        channel = served.open()
    [(_, said, _)] = served.heard
    assert isinstance(said, Identify) and not channel.closed and not channel.stuck
    assert channel.send(encode(Push(7, 1, 0, 0, 0, 1.0, 1.0, True)), np.arange(5, dtype=np.float32))
    [(_, push, payload)] = served.desk.look()
    assert isinstance(push, Push) and isinstance(payload, memoryview) and bytes(payload) == channel_bytes(5)


def channel_bytes(count: int) -> bytes:
    return np.arange(count, dtype=np.float32).tobytes()


def test_a_payload_lands_whole_or_not_at_all(served: Served) -> None:
    channel, theirs = opened(served)
    into = np.full(1 << 20, 9, np.uint8)
    whole = streamed(encode(Weights(7, 0, 1, 0)), bytes(1 << 20))
    with theirs:
        half = threading.Thread(target=theirs.sendall, args=(whole[: -1 << 10],))
        half.start()
        until = time.monotonic() + 10
        while channel._line._filled < 1 << 19 and time.monotonic() < until:
            assert list(channel.receive()) == []
        assert channel._line.awaited and set(into) == {9}
        half.join()
        assert list(channel.receive()) == []
        theirs.sendall(whole[-1 << 10 :])
        for header in channel.receive():
            channel.check(decode(header))
            assert channel.land(into, (0, 1 << 20), False) == 1 << 20
        assert not into.any()


def test_what_is_taken_is_not_written_over_by_what_comes_next(served: Served) -> None:
    channel, theirs = opened(served)
    with theirs:
        theirs.sendall(b"".join(streamed(encode(Weights(7, 0, 1, 0)), bytes([n]) * 100) for n in range(3)))
        taken = [channel.take() for _ in channel.receive()]
    assert [set(payload) for payload in taken] == [{0}, {1}, {2}]


def test_a_payload_of_another_size_is_not_landed(served: Served) -> None:
    channel, theirs = opened(served)
    into = np.zeros(100, np.uint8)
    with theirs:
        theirs.sendall(streamed(encode(Weights(7, 0, 1, 0)), b"x" * 90))
        for _ in channel.receive():
            assert channel.land(into, (0, 100), False) == 90
    assert not into.any()


def test_what_was_said_before_the_answer_is_heard(served: Served, tmp_path: Path) -> None:
    path = str(tmp_path / "early.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            sock, _ = listener.accept()
            sock.sendall(streamed(encode(Waiting(0, (), -1, (), False))) + streamed(encode(Pong(0, "server", -1))))
            sock.recv(1000)
            sock.close()

        thread = threading.Thread(target=answer)
        thread.start()
        channel = StreamChannel(path, identify(7))
        assert [decode(header) for header in channel.receive()] == [Waiting(0, (), -1, (), False)]
        channel.close()
        thread.join()


def test_who_does_not_answer_or_hangs_up_or_is_not_there_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE", 0.1)
    before, path = descriptors(), str(tmp_path / "x.sock")
    with pytest.raises(Unshared, match="No such file"):
        StreamChannel(path, identify(7))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(Unshared, match=r"no answer within 0\.1 s"):
            StreamChannel(path, identify(7))
        listener.accept()[0].close()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with pytest.raises(Unshared, match="closed the line"):
            StreamChannel(path, identify(7))
        thread.join()
    with pytest.raises(Unshared, match="refused"):
        StreamChannel(path, identify(7))
    assert descriptors() == before


def test_a_line_that_was_cut_is_made_anew_with_the_same_descriptor(served: Served) -> None:
    channel, theirs = opened(served)
    theirs.close()
    pollable = channel.pollable
    [origin] = served.desk.listener._by_origin
    served.desk.listener.cut(origin)  # type: ignore[arg-type]
    assert list(channel.receive()) == [] and channel.closed
    assert channel.send(encode(Pull(9, 1, 0, 0, False))), "it is dropped, and asked for again"
    channel.connect_again()
    assert not channel.closed and channel.pollable == pollable
    channel.send(encode(Pull(9, 1, 0, 0, False)))
    [(_, message, _)] = served.desk.look()
    assert message == Pull(9, 1, 0, 0, False)
    Path(served.desk.path).unlink()
    [origin] = served.desk.listener._by_origin
    served.desk.listener.cut(origin)  # type: ignore[arg-type]
    list(channel.receive())
    channel.connect_again()
    assert channel.closed, "nobody listens there any more"
