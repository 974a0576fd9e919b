"""Promises of a UnixStream: what comes is whole and in order, and neither end makes the other's memory grow."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from ps.errors import BadMessage, Unshared
from ps.protocol.codec import MAX_FRAME, MAX_HEADER
from ps.protocol.unix_stream import ABSENT, MAX_UNSENT, UnixStream, new_room
from support.held import descriptors
from support.stream_desk import streamed

Pair = tuple[UnixStream, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.settimeout(10)
    line = UnixStream(ours)
    yield line, theirs
    line.close()
    theirs.close()


def took(line: UnixStream) -> list[tuple[bytes, bytes | None]]:
    return [(header, None if payload is None else bytes(payload)) for header, payload in line.receive()]


def messages(chance: random.Random, count: int) -> list[tuple[bytes, bytes | None]]:
    sizes = (0, 1, 100, 40_000, 70_000, 300_000)
    return [
        (
            chance.randbytes(chance.choice((0, 1, 60, 3000))),
            chance.choice((None, chance.randbytes(chance.choice(sizes)))),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_sent_comes_whole_and_in_order_however_it_is_cut(pair: Pair, seed: int) -> None:
    line, peer = pair
    chance = random.Random(seed)
    wanted = messages(chance, 20)
    data, found = b"".join(streamed(*message) for message in wanted), []
    while len(found) < len(wanted):
        if data:
            step = chance.choice((1, 7, 8, 5000, 200_000))
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                data = data[peer.send(data[:step]) :]
        found += took(line)
    assert found == wanted


def test_two_ends_that_both_send_much_get_all_of_it() -> None:
    ends = [UnixStream(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)]
    payload = np.arange(3 << 20, dtype=np.uint8)
    sendings = [end.put(b"%d" % number, payload) for end in ends for number in range(6)]
    found: list[list[tuple[bytes, bytes | None]]] = [[], []]
    while min(map(len, found)) < 6:
        for end, heard in zip(ends, found, strict=True):
            end.flush()
            heard += took(end)
    assert found == [[(b"%d" % number, payload.tobytes()) for number in range(6)]] * 2
    assert all(sending is not None and sending.done for sending in sendings)
    assert not any(end.unsent or end.unsent_payload for end in ends)
    for end in ends:
        end.close()


def test_a_payload_is_done_once_it_has_left_and_not_before(pair: Pair) -> None:
    line, peer = pair
    sending = line.put(b"h", bytes(20 << 20))
    line.flush()
    assert sending is not None and not sending.done and line.unsent and 0 < line.unsent_payload < 20 << 20
    left = len(streamed(b"h", bytes(20 << 20)))
    while left:
        left -= len(peer.recv(1 << 20))
        line.flush()
    assert sending.done and not line.unsent


def test_a_message_that_breaks_off_is_never_seen(pair: Pair) -> None:
    line, peer = pair
    peer.sendall(streamed(b"whole", b"x" * 10) + streamed(b"half", b"y" * 200_000)[:-1])
    assert took(line) == [(b"whole", b"x" * 10)] and line.awaited == 200_000
    peer.close()
    assert took(line) == [] and line.closed and not line.awaited


@pytest.mark.parametrize("sizes", [(MAX_HEADER + 1, ABSENT), (ABSENT, ABSENT), (5, MAX_FRAME + 1), (5, ABSENT - 1)])
def test_sizes_beyond_the_limits_end_the_stream(pair: Pair, sizes: tuple[int, int]) -> None:
    line, peer = pair
    peer.sendall(streamed(b"good") + struct.pack("<II", *sizes) + b"x" * 100)
    heard = line.receive()
    assert next(heard) == (b"good", None)
    with pytest.raises(BadMessage, match="the limits are"):
        next(heard)
    assert line.closed and took(line) == []


def test_a_payload_that_there_is_no_room_for_ends_the_stream(pair: Pair) -> None:
    _, peer = pair
    line, other = UnixStream(pair[1].dup(), refuse), pair[0]
    del peer
    other.put(b"h", b"x" * 10)
    other.flush()
    with pytest.raises(BadMessage, match="no room for 10"):
        took(line)
    assert line.closed


def refuse(nbytes: int) -> bytes:
    raise BadMessage(f"no room for {nbytes}")


def test_it_is_closed_to_a_peer_that_does_not_read_before_headers_take_much(pair: Pair) -> None:
    line, _ = pair
    count = 0
    while not line.closed:
        line.put(b"h" * 60_000)
        line.flush()
        count += 60_000
        assert count < 2 * MAX_UNSENT + (16 << 20)
    assert line.put(b"more", b"payload") is None and not line.unsent


def test_closing_frees_what_was_not_sent_and_the_descriptor() -> None:
    before = descriptors()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    line = UnixStream(ours)
    sending = line.put(b"h", new_room(20 << 20))
    line.flush()
    line.close()
    line.close()
    theirs.close()
    assert sending is not None and sending.done and line.unsent_payload == 0 and descriptors() == before


def test_nobody_there_is_said(tmp_path: object) -> None:
    with pytest.raises(Unshared, match="No such file"):
        UnixStream.connect(f"{tmp_path}/none.sock")
