"""Promises of a StreamListener: peers with bad manners, or none at all, cost nobody else anything."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ps.protocol.codec import encode
from ps.protocol.messages import Error, Ping, Pong, Pull, Pushed, Share, Weights
from ps.protocol.nuisance import BUDGET, MALFORMED
from ps.protocol.transports import stream_listener as module
from ps.server.loan import Loan
from ps.server.send import Send
from ps.server.shard import lines
from support.held import descriptors
from support.shm_desk import CHUNK, PUSH, is_closed
from support.stream_desk import StreamDesk, read_streamed, streamed

PULL = encode(Pull(9, 1, 0, 0, False))
PAYLOAD = np.arange(CHUNK.size, dtype=np.float32).tobytes()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[StreamDesk]:
    made = StreamDesk(tmp_path)
    yield made
    made.listener.close()


def answer(desk: StreamDesk, origin: object, loan: Loan | None = None) -> None:
    message = Pushed(9, 0, 1, 0) if loan is None else Weights(9, 0, 1, 0)
    lines.perform(origin, Send(origin, message, loan))  # type: ignore[arg-type]
    desk.listener.flush()


def large(mbytes: int = 30) -> Loan:
    return Loan(CHUNK, np.zeros(mbytes << 18, np.float32))


# Good manners


def test_a_worker_is_heard_with_its_payload_and_gets_weights_and_word_that_somebody_is_there(desk: StreamDesk) -> None:
    with desk.connect() as sock:
        sock.sendall(streamed(encode(Ping(4))) + streamed(PUSH, PAYLOAD))
        [(origin, _, payload)] = desk.look()
        assert bytes(payload) == PAYLOAD and origin in desk.listener
        assert read_streamed(sock) == (Pong(4, "server", -1), None)
        loan = Loan(CHUNK, np.arange(CHUNK.size, dtype=np.float32))
        answer(desk, origin, loan)
        assert read_streamed(sock) == (Weights(9, 0, 1, 0), PAYLOAD) and loan.done
    assert desk.rejected == {}


@pytest.mark.parametrize("stay", [False, True])
def test_weights_are_lent_until_they_have_left_unless_they_are_to_stay(desk: StreamDesk, stay: bool) -> None:
    with desk.connect() as sock:
        sock.sendall(streamed(PULL))
        [(origin, _, _)] = desk.look()
        loan = large()
        loan.stay = stay
        answer(desk, origin, loan)
        if not stay:
            assert not loan.done
            loan.weights = np.ones(1, np.float32)  # as when a chunk goes on with a copy
        else:
            assert loan.done
            loan.weights[:] = 1  # nobody waits for it
        sock.settimeout(0.001)
        got = b""
        while len(got) < len(streamed(encode(Weights(9, 0, 1, 0)), bytes(30 << 20))):
            desk.look(1)
            with contextlib.suppress(TimeoutError):
                got += sock.recv(8 << 20)
        assert not any(got[-(30 << 20) :]) and loan.done


# Bad manners


@pytest.mark.parametrize("junk", [b"", b"GET / HTTP/1.1\r\n", bytes(100), PUSH[:-1]])
def test_a_frame_that_is_no_message_is_counted_and_answered_and_the_line_goes_on(desk: StreamDesk, junk: bytes) -> None:
    with desk.connect() as sock:
        sock.sendall(streamed(junk, b"payload"))
        assert desk.look() == [] and sum(desk.rejected.values()) == 1
        assert isinstance(read_streamed(sock)[0], Error)
        sock.sendall(streamed(PULL))
        assert len(desk.look()) == 1


@pytest.mark.parametrize("header, payload", [(PUSH, None), (PULL, b"x")])
def test_a_payload_too_many_or_too_few_is_refused(desk: StreamDesk, header: bytes, payload: bytes | None) -> None:
    with desk.connect() as sock:
        sock.sendall(streamed(header, payload))
        assert desk.look() == [] and desk.rejected == {"frames": 1}
        assert isinstance(read_streamed(sock)[0], Error)


def test_memory_is_not_shared_here(desk: StreamDesk) -> None:
    with desk.connect() as sock:
        sock.sendall(streamed(encode(Share(3, 7, 100, False))))
        [(origin, message, _)] = desk.look()
        desk.listener.share(origin, message, lambda offered: None)
        desk.listener.flush()
        error, _ = read_streamed(sock)
        assert isinstance(error, Error) and error.request == 3 and "another socket" in error.text


def test_sizes_beyond_the_limits_cost_their_sender_the_line(desk: StreamDesk) -> None:
    with desk.connect() as sock:
        sock.sendall(struct.pack("<II", 5, 1 << 31))
        assert desk.look() == [] and desk.rejected == {"frames": 1} and is_closed(sock)


def test_an_error_is_not_answered(desk: StreamDesk) -> None:
    with desk.connect() as sock:
        sock.sendall(streamed(encode(Error(1, "bad-message", "you!"))))
        assert desk.look() == [] and desk.rejected == {"error": 1}
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(100)


def test_who_says_nothing_but_nonsense_is_cut_off_and_others_are_not(desk: StreamDesk) -> None:
    with desk.connect() as bad, desk.connect() as good:
        bad.sendall(streamed(b"nonsense") * (BUDGET // MALFORMED + 2))
        desk.look()
        assert desk.rejected["cut-off"] == 1 and is_closed(bad)
        good.sendall(streamed(PULL))
        assert len(desk.look()) == 1


# Much


def test_a_peer_that_never_reads_is_kept_little_and_others_are_served(tmp_path: Path) -> None:
    desk = StreamDesk(tmp_path, most_unread=50 << 20)
    with desk.connect() as deaf, desk.connect() as good:
        for sock in (deaf, good):
            sock.sendall(streamed(PULL))
        (deaf_origin, _, _), (origin, _, _) = desk.look()
        loans = [large() for _ in range(4)]
        for loan in loans:
            answer(desk, deaf_origin, loan)
        assert desk.rejected["unread"] >= 2 and loans[-1].done, "what is not sent is lent to nobody"
        answer(desk, origin)
        assert read_streamed(good) == (Pushed(9, 0, 1, 0), None)
        desk.listener.cut(deaf_origin)
        assert all(loan.done for loan in loans) and deaf_origin not in desk.listener
    desk.listener.close()


def test_payloads_that_never_end_take_no_more_than_a_bound_and_the_oldest_is_given_up(
    desk: StreamDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNFINISHED", 250_000)
    with desk.connect() as first, desk.connect() as second, desk.connect() as third:
        for sock in (first, second, third):
            sock.sendall(streamed(PUSH, bytes(100_000))[:-1])
            desk.look(2)
        assert desk.rejected == {"unfinished": 1} and is_closed(first) and len(desk.poller.sockets) == 3
        for sock in (second, third):
            sock.sendall(b"\0")
        assert len(desk.look()) == 2


def test_peers_that_go_in_the_middle_leave_nothing(desk: StreamDesk) -> None:
    before = descriptors()
    whole = streamed(PUSH, bytes(200_000))
    for cut in (0, 3, 8, 20, 70_000, len(whole) - 1):
        with desk.connect() as sock:
            sock.sendall(whole[:cut])
            desk.look(2)
        assert desk.look(2) == []
    assert descriptors() == before and desk.rejected == {}


def test_one_that_floods_does_not_keep_others_waiting(desk: StreamDesk) -> None:
    with desk.connect() as flood, desk.connect() as good:
        flood.setblocking(False)
        good.sendall(streamed(PULL))
        data = streamed(PULL) * 20_000
        heard: list[object] = []
        for _ in range(3):
            try:
                while flood.send(data):
                    pass
            except BlockingIOError:
                pass
            heard += [origin for origin, _, _ in desk.look(1)]
        assert len(set(heard)) == 2


def test_nobody_is_let_in_beyond_the_limit(desk: StreamDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps.protocol.transports.unix_listener.MOST", 1)
    with desk.connect() as first, desk.connect() as second:
        assert is_closed(second)
        first.sendall(streamed(PULL))
        assert len(desk.look()) == 1
    assert isinstance(first, socket.socket)
