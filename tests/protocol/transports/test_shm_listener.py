"""Promises of a ShmListener: what peers with bad manners send is counted and costs nobody else anything."""

from __future__ import annotations

import contextlib
import os
import struct

import numpy as np
import pytest

from ps.errors import BadMessage
from ps.protocol.codec import MAX_HEADER, encode
from ps.protocol.messages import Error, Pull, Push, Shared, Weights
from ps.protocol.segment import Segment
from ps.server.loan import Loan
from ps.server.send import Send
from ps.server.shard import lines
from ps.threads import ThreadTeam
from support.held import descriptors
from support.shm_desk import CHUNK, NBYTES, PUSH, Desk, framed, is_closed, read, told

# Good manners


@pytest.mark.parametrize("threads", [1, 3])
def test_a_worker_that_shares_memory_is_heard_with_it_and_gets_weights_into_it(desk: Desk, threads: int) -> None:
    desk.team = ThreadTeam(threads, least_bytes=1)
    with desk.connect() as sock:
        memory = desk.share(sock)
        assert told(sock) == Shared(3, False)
        sock.sendall(framed(PUSH))
        [(origin, message, shared)] = desk.look()
        assert isinstance(message, Push) and shared is not None and origin in desk.listener
        memory.part("gradients", CHUNK)[5] = 2.5
        assert shared.part("gradients", CHUNK)[5] == 2.5
        weights = np.arange(CHUNK.size, dtype=np.float32)
        for aside, region, other in ((False, "weights", "aside"), (True, "aside", "weights")):
            memory.array(other)[:] = 99
            loan = Loan(CHUNK, weights)
            lines.perform(origin, Send(origin, Weights(7, 0, 1, 0), loan, aside))
            desk.listener.flush()
            assert told(sock) == Weights(7, 0, 1, 0) and loan.done
            assert np.array_equal(memory.part(region, CHUNK), weights)
            assert set(memory.array(other)) == {99}, "nothing is written that was not asked for"


def test_the_weights_home_is_taken_once_and_handed_to_everybody(desk: Desk) -> None:
    with desk.connect() as first, desk.connect() as second, desk.connect() as third:
        weights = Segment.create(NBYTES)
        identities = []
        for sock, offer in ((first, weights), (second, None)):
            desk.share(sock, weights=offer)
            message, fds = read(sock)
            assert message == Shared(3, True) and len(fds) == 1
            identities.append(Segment.adopt(fds[0], NBYTES).identity)
        assert set(identities) == {weights.identity}
        desk.weights_memory = lambda offered: desk.kept  # type: ignore[method-assign]
        desk.share(third, weights=Segment.create(NBYTES))
        message, fds = read(third)
        assert message == Shared(3, True) and Segment.adopt(fds[0], NBYTES).identity == weights.identity
        assert desk.kept is not None
        desk.kept[9] = 77
        assert weights.array(0, NBYTES)[9] == 77


def test_memory_that_the_weights_are_no_longer_kept_in_is_handed_to_nobody(desk: Desk) -> None:
    with desk.connect() as first, desk.connect() as second:
        desk.share(first, weights=Segment.create(NBYTES))
        message, fds = read(first)
        assert message == Shared(3, True)
        os.close(fds[0])
        desk.kept = np.zeros(4, np.uint8)  # as when another model is initialised
        desk.share(second)
        assert read(second) == (Shared(3, False), [])


# Bad manners


@pytest.mark.parametrize(
    "junk",
    [b"", b"GET / HTTP/1.1\r\n", bytes(100), b"\xff" * 4000, PUSH[:-1], encode(Weights(1, 0, 0, 0))[:4]],
    ids=["empty", "http", "zeros", "ones", "cut short", "head only"],
)
def test_a_frame_that_is_no_message_is_counted_and_answered_and_the_line_goes_on(desk: Desk, junk: bytes) -> None:
    with desk.connect() as sock:
        sock.sendall(framed(junk))
        reason = "malformed header" if len(junk) > 4 and junk.startswith(b"PS") else "not ps"
        assert desk.look() == [] and desk.rejected == {reason: 1}, "as an Inbox counts it"
        assert isinstance(told(sock), Error)
        desk.share(sock)
        assert told(sock) == Shared(3, False)


@pytest.mark.parametrize("size", [MAX_HEADER + 1, 1 << 31, (1 << 32) - 1])
def test_a_length_beyond_the_limit_costs_its_sender_the_line(desk: Desk, size: int) -> None:
    with desk.connect() as sock:
        sock.sendall(struct.pack("<I", size) + b"x")
        assert desk.look() == [] and desk.rejected == {"frames": 1}
        assert is_closed(sock)


def test_a_frame_that_comes_byte_by_byte_is_heard_when_it_is_whole(desk: Desk) -> None:
    with desk.connect() as sock:
        desk.share(sock)
        for byte in framed(PUSH)[:-1]:
            sock.sendall(bytes([byte]))
            assert desk.look(1) == []
        sock.sendall(framed(PUSH)[-1:])
        assert len(desk.look()) == 1


def test_a_peer_that_goes_in_the_middle_of_a_frame_leaves_nothing(desk: Desk) -> None:
    before = descriptors()
    for cut in (0, 2, 4, 10):
        with desk.connect() as sock:
            desk.share(sock)
            sock.sendall(framed(PUSH)[:cut])
            desk.look()
        assert desk.look() == []
    assert descriptors() == before and desk.rejected == {}


def test_thousands_of_frames_at_once_are_all_heard_in_order(desk: Desk) -> None:
    with desk.connect() as sock:
        desk.share(sock)
        data = framed(*(encode(Pull(number, 1, 0, 0, False)) for number in range(1, 10_001)))
        sock.setblocking(False)
        heard: list[int] = []
        while len(heard) < 10_000:
            with contextlib.suppress(BlockingIOError):
                data = data[sock.send(data) :] if data else b""
            heard += [message.request for _, message, _ in desk.look(1)]
        assert heard == list(range(1, 10_001))


def test_an_error_is_not_answered_so_that_two_cannot_keep_each_other_busy(desk: Desk) -> None:
    with desk.connect() as sock:
        sock.sendall(framed(encode(Error(1, "bad-message", "you!"))))
        assert desk.look() == [] and desk.rejected == {"error": 1}
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(100)


def test_a_push_before_memory_was_shared_is_refused(desk: Desk) -> None:
    with desk.connect() as sock:
        sock.sendall(framed(PUSH))
        assert desk.look() == []
        answer = told(sock)
        assert isinstance(answer, Error) and "Push for memory that was not shared" in answer.text


def test_weights_for_a_peer_that_shared_no_memory_are_refused(desk: Desk) -> None:
    with desk.connect() as sock:
        sock.sendall(framed(encode(Pull(9, 1, 0, 0, False))))
        [(origin, _, memory)] = desk.look()
        assert memory is None
        loan = Loan(CHUNK, np.zeros(CHUNK.size, np.float32))
        lines.perform(origin, Send(origin, Weights(9, 0, 1, 0), loan))
        desk.listener.flush()
        answer = told(sock)
        assert isinstance(answer, Error) and answer.request == 9 and "not shared" in answer.text
        assert loan.done, "the weights must not stay lent for ever"


def test_weights_that_do_not_fit_the_shared_memory_are_refused(desk: Desk) -> None:
    with desk.connect() as sock:
        desk.share(sock, NBYTES - 100)
        assert told(sock) == Shared(3, False)
        sock.sendall(framed(encode(Pull(9, 1, 0, 0, False))))
        [(origin, _, memory)] = desk.look()
        loan = Loan(CHUNK, np.zeros(CHUNK.size, np.float32))
        lines.perform(origin, Send(origin, Weights(9, 0, 1, 0), loan))
        desk.listener.flush()
        answer = told(sock)
        assert isinstance(answer, Error) and answer.request == 9 and f"is for {NBYTES - 100}" in answer.text
        assert memory is not None and loan.done
        with pytest.raises(BadMessage):
            memory.part("gradients", CHUNK)
