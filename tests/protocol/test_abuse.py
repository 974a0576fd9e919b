"""Promises of the inbox under abuse, from noise below ZeroMQ to a flood: it costs little, and others are answered."""

from __future__ import annotations

import os
import socket
import struct
import time

import pytest
import zmq

from ps.protocol.codec import MAX_FRAME, decode, encode
from ps.protocol.messages import Error, Heartbeat, Ping, Pong, Status, Weights
from support import zmtp
from support.inboxes import HEAD, PULL, PUSH, Dial, Listen, answer, memory, turn


@pytest.mark.parametrize(
    "noise", [os.urandom(5000), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", bytes(64), b"\xff"]
)
def test_bytes_that_are_not_zeromq_disturb_nobody(listen: Listen, dial: Dial, noise: bytes) -> None:
    inbox, address = listen()
    _, _, port = address.rpartition(":")
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as sock:
        sock.sendall(noise)
        peer = dial(address)
        peer.send(encode(Ping(1)))
        assert answer(inbox, peer) == Pong(1, "server", 2)
    # nothing is said of the counters: bytes that do not begin with ff may look like ZMTP 1, which has no greeting


@pytest.mark.parametrize("size", [MAX_FRAME + 1, 1 << 40, 1 << 62, (1 << 64) - 1])
def test_a_frame_that_declares_too_many_bytes_ends_its_connection(listen: Listen, size: int) -> None:
    inbox, address = listen()
    before = memory()
    with zmtp.connect(address) as sock:
        sock.sendall(zmtp.frame(b"x" * 100, declared=size))
        assert zmtp.closed(sock)
    assert memory() - before < 10
    assert not inbox.rejected


def test_declared_sizes_and_open_connections_cost_little(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    before = memory()
    _, _, port = address.rpartition(":")
    silent = [socket.create_connection(("127.0.0.1", int(port)), timeout=10) for _ in range(200)]
    halves = [zmtp.connect(address) for _ in range(100)]
    for sock in halves:
        sock.sendall(zmtp.frame(b"x" * 100, declared=MAX_FRAME))
    peer = dial(address)
    peer.send(encode(Ping(1)))
    assert answer(inbox, peer) == Pong(1, "server", 2)
    assert memory() - before < 50
    for sock in silent + halves:
        sock.close()


def test_a_message_broken_off_in_the_middle_is_never_seen(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    with zmtp.connect(address) as sock:
        sock.sendall(zmtp.frame(PUSH, more=True) + zmtp.frame(b"half", declared=1000))
    peer = dial(address)
    peer.send(encode(Ping(1)))
    assert answer(inbox, peer) == Pong(1, "server", 2)
    assert not inbox.rejected


def test_a_socket_of_another_kind_is_kept_out_or_answered(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    with zmtp.connect(address, b"PUB") as sock:
        sock.sendall(zmtp.frame(PULL))
        assert zmtp.closed(sock)
    peer = dial(address)
    peer.send(encode(Ping(1)))
    assert answer(inbox, peer) == Pong(1, "server", 2)


def test_memory_is_flat_under_a_flood(listen: Listen, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps.protocol.nuisance.BUDGET", 1 << 40)  # or it would be over soon
    inbox, address = listen()
    peer = dial(address)
    bad = [
        b"",
        os.urandom(64),
        HEAD + b"\x24" + b"\xdd\x00\x0f\xff\xff" * 5000,
        HEAD + b"\x04" + os.urandom(2000),
        b"PS\x05\x04abc",
        encode(Heartbeat(1, 1, {"a": 1}))[:-2],
        HEAD + b"\x26" + struct.pack(">I", 0xDD000000) + os.urandom(100),
    ]

    def flood(count: int) -> int:
        answered = 0
        for i in range(count):
            peer.send(bad[i % len(bad)])
            if i % 100 == 99:
                while answered <= i - 100:
                    if inbox.socket.poll(20):
                        assert list(inbox.receive(64)) == []
                    while peer.poll(0):
                        assert isinstance(decode(peer.recv()), Error)
                        answered += 1
        return answered

    flood(2000)
    before = memory()
    flood(8000)
    assert memory() - before < 5
    assert len(inbox.rejected) <= 8


def test_a_peer_that_never_reads_pins_no_more_than_a_bound(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    inbox.most_unread = 64 << 20
    peer = dial(address)
    peer.setsockopt(zmq.RCVHWM, 1)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    block = bytes(4 << 20)
    trackers = [inbox.lend(origin, Weights(n, 2, 3, 0), block) for n in range(40)]
    held = sum(tracker is not None and not tracker.done for tracker in trackers)
    assert 0 < held <= 16
    assert inbox.rejected["unread"] > 0 and trackers[-1] is None
    assert inbox.lend(b"another", Weights(1, 2, 3, 0), block) is not None


def test_a_peer_that_never_reads_is_kept_no_more_long_answers_than_a_bound(
    listen: Listen, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ps.protocol.inbox.MOST_UNREAD_BY_ALL", 24 << 20)
    inbox, address = listen()
    peers = [dial(address) for _ in range(3)]
    origins = []
    for peer in peers:
        peer.setsockopt(zmq.RCVHWM, 1)
        peer.send(PULL)
        ((origin, _, _),) = turn(inbox)
        origins.append(origin)
    before, text = memory(), "x" * (1 << 20)
    for origin in origins:
        for number in range(200):
            inbox.send(origin, Status(number, {"text": text}))
    assert inbox.rejected["unread"] > 500, "of 600, but what the system's buffers hold"
    assert memory() - before < 24 + 3 * 16
    reads = dial(address)
    reads.send(encode(Ping(1)))
    assert answer(inbox, reads) == Pong(1, "server", 2)


def test_a_peer_that_says_hardly_anything_but_wrong_things_is_cut_off(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    other = dial(address)
    with zmtp.connect(address) as sock:
        sent = 0
        while zmtp.send(sock, zmtp.frame(b"PS") * 100, deaf=True):
            sent += 100
            assert sent < 20_000, "it was never cut off"
            while inbox.socket.poll(5):
                assert list(inbox.receive(64)) == []
    assert inbox.rejected["cut-off"] >= 1
    other.send(encode(Ping(1)))
    assert answer(inbox, other) == Pong(1, "server", 2)


def test_what_comes_of_one_that_was_cut_off_is_dropped_and_cuts_nobody_else(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    with zmtp.connect(address) as sock:
        sock.sendall(zmtp.frame(b"PS") * 3000)
        deadline = time.monotonic() + 20
        while not inbox.rejected["cut-off"] and time.monotonic() < deadline:
            list(inbox.receive(64))
        assert zmtp.closed(sock)
    with zmtp.connect(address) as next_one:  # its number is that of the one that has gone
        while inbox.socket.poll(50):
            list(inbox.receive(64))
        next_one.sendall(zmtp.frame(encode(Ping(3))))
        turn(inbox)
        head = next_one.recv(2)
        assert isinstance(decode(next_one.recv(head[1])), Pong)
