"""Promises of a line: headers arrive whole and in order, open files with them, and no peer can make it grow."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ps.errors import BadMessage, Unshared
from ps.protocol import unix_channel as module
from ps.protocol.codec import MAX_HEADER
from ps.protocol.transports.unix_listener import listen
from ps.protocol.unix_channel import MAX_FDS, MAX_UNSENT, UnixChannel, demand_same_user
from support.held import descriptors

Pair = tuple[UnixChannel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A line, and the socket at its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    line = UnixChannel(ours)
    theirs.settimeout(10)
    yield line, theirs
    line.close()
    theirs.close()


def framed(*headers: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(header)) + header for header in headers)


def took(line: UnixChannel) -> list[bytes]:
    return list(line.receive())


def test_a_header_arrives_as_it_was_sent_with_its_length_before_it(pair: Pair) -> None:
    line, peer = pair
    line.send(b"one")
    line.send(b"")
    line.send(b"three")
    assert peer.recv(100) == framed(b"one", b"", b"three")
    peer.sendall(framed(b"alone"))
    assert took(line) == [b"alone"]
    peer.sendall(framed(b"", b"two", b"x" * 1000))
    assert took(line) == [b"", b"two", b"x" * 1000]
    assert took(line) == []


@pytest.mark.parametrize("seed", range(5))
def test_headers_arrive_whole_however_they_are_cut(pair: Pair, seed: int) -> None:
    line, peer = pair
    dice = random.Random(seed)
    headers = [dice.randbytes(dice.choice([0, 1, 3, 50, 5000])) for _ in range(60)]
    data, got = framed(*headers), []
    while data:
        size = dice.choice([1, 2, 3, 5, 100, 8000])
        peer.sendall(data[:size])
        data = data[size:]
        if dice.random() < 0.7:
            got += took(line)
    assert got + took(line) == headers


def test_a_length_beyond_the_limit_closes_the_line_before_anything_is_kept(pair: Pair) -> None:
    line, peer = pair
    peer.sendall(framed(b"fine") + struct.pack("<I", MAX_HEADER + 1) + b"begin")
    headers = line.receive()
    assert next(headers) == b"fine"
    with pytest.raises(BadMessage, match=f"{MAX_HEADER + 1} bytes; the limit is {MAX_HEADER}"):
        next(headers)
    assert line.closed and took(line) == []


def test_a_frame_that_never_ends_yields_nothing(pair: Pair) -> None:
    line, peer = pair
    for _ in range(3):
        peer.sendall(struct.pack("<I", 3000) + bytes(900) if not took(line) and not line._got else bytes(900))
        assert took(line) == []
    peer.close()
    assert took(line) == [] and (took(line), line.closed) == ([], True)


def test_what_the_peer_said_before_it_went_is_heard(pair: Pair) -> None:
    line, peer = pair
    peer.sendall(framed(b"last words"))
    peer.close()
    assert took(line) == [b"last words"] and not line.closed
    assert took(line) == [] and line.closed
    line.send(b"too late")
    line.flush()
    assert not line.unsent


def test_a_line_whose_peer_is_gone_closes_with_the_next_send_and_raises_nothing(pair: Pair) -> None:
    line, peer = pair
    peer.close()
    line.send(b"hello?")
    assert line.closed
    line.close()


def test_what_has_no_room_is_sent_when_there_is_some(pair: Pair) -> None:
    line, peer = pair
    headers = [b"%6d" % number * 50 for number in range(5000)]
    for header in headers:
        line.send(header)
    assert line.unsent and not line.closed
    wanted, got = framed(*headers), bytearray()
    while len(got) < len(wanted):
        got += peer.recv(1 << 16)
        line.flush()
    assert bytes(got) == wanted and not line.unsent


def test_a_peer_that_never_reads_costs_a_bounded_amount_of_memory(pair: Pair) -> None:
    line, _ = pair
    header, kept = bytes(1 << 20), 0
    for _ in range(40):
        line.send(header)
        kept = max(kept, len(line._unsent))
    assert line.closed and kept <= MAX_UNSENT + len(header) + 4
    assert not line.unsent, "a closed line has nothing to send, and whoever asks is not to wait for it"


def test_open_files_come_with_the_header_they_were_sent_with(pair: Pair, tmp_path: Path) -> None:
    line, peer = pair
    (tmp_path / "note").write_text("read me")
    line.expects_fds = True
    with open(tmp_path / "note") as note:  # noqa: PTH123
        socket.send_fds(peer, [framed(b"here")], [note.fileno()])
    assert took(line) == [b"here"]
    [fd] = line.take_fds()
    with os.fdopen(fd) as got:
        assert got.read() == "read me"
        assert not os.get_inheritable(got.fileno()), "a program that a worker starts has no use for it"
    assert line.take_fds() == []


def test_a_line_hands_open_files_over_but_not_when_it_has_no_room(pair: Pair) -> None:
    line, peer = pair
    with open(os.devnull) as null:  # noqa: PTH123
        line.send(b"take", [null.fileno()])
        data, fds, _, _ = socket.recv_fds(peer, 100, 5)
        assert data == framed(b"take") and len(fds) == 1
        os.close(fds[0])
        while not line.unsent:
            line.send(bytes(5000))
        line.send(b"later", [null.fileno()])
    got = bytearray()
    while not got.endswith(framed(b"later")):
        data, fds, _, _ = socket.recv_fds(peer, 1 << 16, 5)
        assert not fds
        got += data
        line.flush()


def test_open_files_that_nobody_expects_are_closed(pair: Pair) -> None:
    line, peer = pair
    before = descriptors()
    with open(os.devnull) as null:  # noqa: PTH123
        for _ in range(20):
            socket.send_fds(peer, [framed(b"surprise")], [null.fileno()] * 2)
            assert took(line) == [b"surprise"]
    assert line.take_fds() == [] and descriptors() == before


@pytest.mark.parametrize("count", [MAX_FDS + 1, 100])
def test_of_too_many_open_files_with_one_frame_none_is_left(pair: Pair, count: int) -> None:
    line, peer = pair
    line.expects_fds = True
    before = descriptors()
    with open(os.devnull) as null:  # noqa: PTH123
        socket.send_fds(peer, [framed(b"heap")], [null.fileno()] * count)
    with contextlib.suppress(BadMessage):
        took(line)
    assert descriptors() <= before + MAX_FDS
    line.close()
    assert descriptors() <= before


def test_open_files_that_nobody_takes_do_not_pile_up(pair: Pair) -> None:
    line, peer = pair
    line.expects_fds = True
    before = descriptors()
    with open(os.devnull) as null:  # noqa: PTH123
        socket.send_fds(peer, [framed(b"one")], [null.fileno()] * 2)
        assert took(line) == [b"one"]
        socket.send_fds(peer, [framed(b"two")], [null.fileno()])
        with pytest.raises(BadMessage, match="3 open files for one message; the limit is 2"):
            took(line)
    assert line.closed and descriptors() == before - 1  # the line's own is gone, too


def test_closing_a_line_closes_what_came_on_it(pair: Pair) -> None:
    line, peer = pair
    line.expects_fds = True
    before = descriptors()
    with open(os.devnull) as null:  # noqa: PTH123
        socket.send_fds(peer, [framed(b"one")], [null.fileno()] * 2)
    assert took(line) == [b"one"]
    line.close()
    assert descriptors() == before - 1


# Connecting


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    sock, address = listen(tmp_path)
    yield sock, address.removeprefix("shm://")
    sock.close()


def test_a_line_connects_to_a_process_of_this_user(listener: tuple[socket.socket, str]) -> None:
    sock, path = listener
    line = UnixChannel.connect(path)
    peer, _ = sock.accept()
    line.send(b"hello")
    assert peer.recv(100) == framed(b"hello")
    demand_same_user(peer)
    peer.close()
    line.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.touch(), "refused"),
        (lambda path: path.mkdir(), "refused"),
    ],
    ids=["nothing there", "a plain file", "a directory"],
)
def test_a_path_where_nobody_listens_is_named_with_the_reason(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / "x.sock"
    make(path)
    before = descriptors()
    with pytest.raises(Unshared, match=f"x.sock: .*{why}"):
        UnixChannel.connect(str(path))
    assert descriptors() == before


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unshared, match="too long"):
        UnixChannel.connect(str(tmp_path / ("x" * 200)))


def test_a_process_that_takes_no_more_connections_does_not_hold_anybody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(tmp_path / "x.sock"))
        busy.listen(0)
        with pytest.raises(Unshared, match=r"x\.sock: "):
            for _ in range(20):
                stack.callback(UnixChannel.connect(str(tmp_path / "x.sock")).close)


class _Stranger:
    """A socket whose peer belongs to somebody else."""

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def getsockopt(self, *_: Any) -> bytes:
        return struct.pack("iII", 1, self.uid, 0)


def test_a_process_of_another_user_is_refused(
    listener: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = listener
    monkeypatch.setattr(module.os, "getuid", lambda: 123456)
    before = descriptors()
    with pytest.raises(Unshared, match=r"belongs to another user \(\d+, not 123456\)"):
        UnixChannel.connect(path)
    assert descriptors() == before


def test_a_user_with_a_very_high_number_is_the_same_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "getuid", lambda: 4_294_900_000)
    demand_same_user(_Stranger(4_294_900_000))  # type: ignore[arg-type]
    with pytest.raises(Unshared):
        demand_same_user(_Stranger(0))  # type: ignore[arg-type]
