"""Promises of the inbox, on real sockets: garbage is counted, answered and forgotten, and nobody else notices."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from ps.errors import BadMessage
from ps.protocol.codec import MAGIC, MAX_FRAME, VERSION, decode, encode
from ps.protocol.inbox import SKIP, Inbox
from ps.protocol.messages import (
    Error,
    Heartbeat,
    Message,
    Ok,
    Ping,
    Pong,
    Pull,
    Push,
    Status,
    Weights,
)
from support import zmtp

HEAD = MAGIC + bytes((VERSION,))

Listen = Callable[..., tuple[Inbox, str]]
Dial = Callable[[str], zmq.Socket[Any]]
PUSH = encode(Push(1, 2, 3, 4, 4, 1.0, 1.0, True))
PULL = encode(Pull(9, 2, 3, 4))


def turn(inbox: Inbox, most: int = 64) -> list[tuple[bytes, Message, Any]]:
    """Wait for something and return what the inbox yields of it."""
    assert inbox.socket.poll(10_000), "nothing came"
    return list(inbox.receive(most))


def answer(inbox: Inbox, peer: zmq.Socket[Any]) -> Message:
    """Let the inbox work until the peer has an answer; return it."""
    deadline = time.monotonic() + 20
    while not peer.poll(1):
        assert time.monotonic() < deadline, "no answer"
        if inbox.socket.poll(20):
            list(inbox.receive(64))
    message: Message = decode(peer.recv_multipart()[0])
    return message


def memory() -> int:
    """Return this process's resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_message_is_yielded_with_its_sender_and_its_payload_uncopied(
    listen: Listen, dial: Dial, transport: str
) -> None:
    inbox, address = listen(transport)
    peer = dial(address)
    peer.send_multipart([PUSH, b"x" * 100_000])
    ((origin, message, payload),) = turn(inbox)
    assert message == decode(PUSH)
    assert bytes(payload) == b"x" * 100_000
    assert payload.readonly or isinstance(payload, memoryview)
    inbox.send(origin, Ok(1))
    assert answer(inbox, peer) == Ok(1)
    assert not inbox.rejected


def test_pings_are_answered_and_not_yielded(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(encode(Ping(5)))
    assert answer(inbox, peer) == Pong(5, "server", 2)


@pytest.mark.parametrize(
    ("frames", "reason", "code"),
    [
        ([b"garbage"], "not ps", "bad-message"),
        ([b""], "not ps", "bad-message"),
        ([b"", b""], "not ps", "bad-message"),
        ([b"PS"], "not ps", "bad-message"),
        ([b"PS\x7f\x0e\x91\x00"], "version", "version"),
        ([HEAD + b"\xc8\x91\x00"], "unknown type", "bad-message"),
        ([PUSH[:-1], b"x"], "malformed header", "bad-message"),
        ([PUSH + b"\0", b"x"], "malformed header", "bad-message"),
        ([HEAD + b"\x0e\x92\x00\x00"], "malformed header", "bad-message"),
        ([HEAD + b"\x0e\x91\xa1x"], "malformed header", "bad-message"),
        ([PUSH], "frames", "bad-message"),
        ([PULL, b"payload"], "frames", "bad-message"),
        ([PUSH, b"x", b"y"], "frames", "bad-message"),
        ([b"x"] * 5000, "frames", "bad-message"),
        ([HEAD + b"\x04" + bytes(300_000)], "header size", "bad-message"),
        ([HEAD + b"\x24\x95\x01\x01\x01\x01\xdd\xff\xff\xff\xff" + bytes(1000)], "malformed header", "bad-message"),
    ],
    ids=range(16),
)
def test_each_kind_of_garbage_is_counted_by_its_reason_and_answered(
    listen: Listen, dial: Dial, frames: list[bytes], reason: str, code: str
) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send_multipart(frames)
    error = answer(inbox, peer)
    assert isinstance(error, Error)
    assert (error.request, error.code) == (0, code)
    assert error.text
    assert dict(inbox.rejected) == {reason: 1}
    peer.send(PULL)
    assert [message for _, message, _ in turn(inbox)] == [decode(PULL)]


def test_a_version_error_names_both_versions(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(b"PS" + bytes((VERSION + 1,)) + PULL[3:])
    error = answer(inbox, peer)
    assert isinstance(error, Error)
    assert error.text == f"the peer speaks protocol version {VERSION + 1}, this process version {VERSION}"


def test_errors_are_never_answered(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(encode(Error(3, "bad-message", "you are wrong")))
    peer.send(HEAD + encode(Error(3, "bad-message", "you are wrong"))[3:])
    peer.send(encode(Ping(1)))
    assert answer(inbox, peer) == Pong(1, "server", 2)
    assert dict(inbox.rejected) == {"error": 2}


def test_every_error_sent_is_counted_by_its_code(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    inbox.send(origin, Error(9, "evicted", "you left"))
    inbox.reject(origin, 9, BadMessage("chunk 3 has 12 bytes, the frame 4", "payload size"))
    inbox.reject(origin, 9, BadMessage("a scheduler has no use for Pull"))
    assert dict(inbox.rejected) == {"evicted": 1, "payload size": 1, "refused": 1}


def test_at_most_so_many_messages_are_yielded_at_once(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    for _ in range(10):
        peer.send(PULL)
    peer.send(encode(Ping(1)))
    taken = len(turn(inbox, 3))
    assert taken <= 3
    while taken < 10:
        taken += len(turn(inbox, 3))
    assert answer(inbox, peer) == Pong(1, "server", 2)


def test_a_message_of_very_many_frames_does_not_keep_the_loop(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer, other = dial(address), dial(address)
    count = 30 * SKIP
    peer.send_multipart([b""] * count)
    turns = 0
    while not inbox.rejected:
        assert turn(inbox) == []
        turns += 1
    assert turns >= count // SKIP
    assert dict(inbox.rejected) == {"frames": 1}
    other.send(encode(Ping(1)))
    assert answer(inbox, other) == Pong(1, "server", 2)


def test_an_answer_to_a_peer_that_is_gone_is_dropped(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer, other = dial(address), dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    peer.close()
    inbox.send(b"nobody", Ok(1))
    inbox.lend(b"nobody", Weights(1, 2, 3, 0), b"x" * 100_000)
    for _ in range(5000):
        inbox.send(origin, Ok(1))
    other.send(encode(Ping(1)))
    assert answer(inbox, other) == Pong(1, "server", 2)


def test_a_message_that_cannot_be_written_is_counted_and_does_not_garble_the_next(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    inbox.send(origin, Status(1, {"value": object()}))
    inbox.send(origin, Status(1, {"value": "x" * 5_000_000}))
    assert inbox.lend(origin, Weights(1 << 70, 2, 3, 0), b"payload") is None
    assert inbox.rejected["unsent"] == 3
    inbox.send(origin, Ok(1))
    assert answer(inbox, peer) == Ok(1)


def test_lent_weights_are_free_once_they_are_sent(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    lease = inbox.lend(origin, Weights(9, 3, 5, 1), bytearray(200_000))
    header, payload = peer.recv_multipart()
    assert decode(header) == Weights(9, 3, 5, 1)
    assert payload == bytes(200_000)
    lease.wait(10)
    assert lease.done


# Below ZeroMQ


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


def test_a_message_whose_address_is_not_known_is_yielded_without_one() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as peer:
        router.bind("inproc://inbox")  # it has no addresses at all, as a connection that has closed has none any more
        peer.connect("inproc://inbox")
        peer.send(PULL)
        inbox = Inbox(router, "scheduler", 0, tells_address=True)
        assert [type(message) for _, message, _ in turn(inbox)] == [Pull]
        assert inbox.address == ""


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_from_which_connections_messages_were_taken_is_known_once_it_is_asked(
    listen: Listen, dial: Dial, transport: str
) -> None:
    inbox, address = listen(transport)
    one, other = dial(address), dial(address)
    one.send(PULL)
    assert len(list(turn(inbox))) == 1 and inbox.heard() == set()
    heard = []
    for peer in (one, other, one):
        inbox.note_heard()
        peer.send(PULL)
        turn(inbox)
        heard.append(inbox.heard())
    assert [len(each) for each in heard] == [1, 1, 1] and heard[0] == heard[2] != heard[1]


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
