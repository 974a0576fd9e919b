"""Promises of a ShmListener to peers that come, go, stand still or are too many: none costs another anything."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import time
from pathlib import Path

import pytest

from ps.errors import Unshared
from ps.protocol.codec import encode
from ps.protocol.messages import Error, Ok, Pull, Pushed, Shared
from ps.protocol.segment import Segment
from ps.protocol.transports import unix_listener as module
from ps.protocol.unix_channel import MAX_UNSENT
from ps.server.send import Send
from ps.server.shard import lines
from support.held import descriptors, mappings
from support.shm_desk import CHUNK, NBYTES, PUSH, Desk, framed, is_closed, read, told


@pytest.mark.parametrize("how", ["it went", "it sent no frame"])
def test_a_worker_that_gets_the_descriptor_of_one_that_just_went_is_served(desk: Desk, how: str) -> None:
    old = desk.connect()
    desk.look()
    [fd] = desk.listener._by_fd
    if how == "it went":
        old.close()
    else:
        old.sendall(b"\xff" * 8)
    with desk.connect() as sock:
        listener = next(iter(fd for fd, _ in desk.poller.sockets))
        assert list(desk.listener.receive([fd, listener])) == []
        assert list(desk.listener._by_fd) == [fd], "the system gave the number again, or this tests nothing"
        desk.share(sock)
        assert told(sock) == Shared(3, False)
    old.close()


def test_a_worker_that_gets_the_descriptor_of_one_that_never_read_is_served(desk: Desk) -> None:
    with desk.connect() as deaf:
        deaf.sendall(framed(encode(Pull(9, 1, 0, 0, False))))
        desk.look()
        [fd] = desk.listener._by_fd
        origin = desk.listener._by_fd[fd].origin
        with desk.connect() as sock:
            while origin in desk.listener:
                lines.perform(origin, Send(origin, Error(9, "bad-message", "x" * 400)))
            events = [fd for fd, _ in desk.poller.sockets]
            assert list(desk.listener.receive(events)) == [] and list(desk.listener._by_fd) == [fd]
            desk.share(sock)
            assert told(sock) == Shared(3, False)


# Numbers


def test_a_peer_that_never_reads_is_dropped_before_it_costs_much(desk: Desk) -> None:
    with desk.connect() as sock:
        desk.share(sock)
        sock.sendall(framed(encode(Pull(9, 1, 0, 0, False))))
        [(origin, _, _)] = desk.look()
        big = Error(9, "bad-message", "x" * 400)
        sent = 0
        while origin in desk.listener and sent < 3 * MAX_UNSENT:
            lines.perform(origin, Send(origin, big))
            desk.listener.flush()
            sent += len(framed(encode(big)))
        assert origin not in desk.listener and MAX_UNSENT <= sent < 2 * MAX_UNSENT
        assert desk.look() == [] and is_closed(sock)
    before = descriptors()
    with desk.connect() as sock:
        assert descriptors() == before + 1
        desk.share(sock)
        assert told(sock) == Shared(3, False)


def test_a_peer_that_reads_late_gets_everything_in_order(desk: Desk) -> None:
    with desk.connect() as sock:
        desk.share(sock)
        assert told(sock) == Shared(3, False)
        sock.sendall(framed(encode(Pull(9, 1, 0, 0, False))))
        [(origin, _, _)] = desk.look()
        for number in range(5000):
            lines.perform(origin, Send(origin, Pushed(number, 0, 0, 0)))
            desk.listener.flush()
        got = bytearray()
        sock.setblocking(False)
        end = time.monotonic() + 20
        wanted = framed(*(encode(Pushed(number, 0, 0, 0)) for number in range(5000)))
        while len(got) < len(wanted) and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                got += sock.recv(1 << 16)
            desk.look(1)
        assert bytes(got) == wanted
        began = time.monotonic()
        assert desk.poller.poll(50) == [] and time.monotonic() - began > 0.04, "it does not go on waiting for room"


def test_lines_beyond_the_most_are_closed_at_once_and_work_again_when_others_have_gone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 40)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(desk.connect()) for _ in range(41)]
        desk.look()
        assert [is_closed(sock) for sock in socks[-3:]] == [False, False, True]
        socks[0].close()
        desk.look()
        late = stack.enter_context(desk.connect())
        desk.share(late)
        assert told(late) == Shared(3, False)


def test_a_server_without_a_free_descriptor_turns_workers_away_and_does_not_spin(desk: Desk) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with desk.connect() as first, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as second:
        desk.share(first)
        second.settimeout(10)
        second.connect(desk.listener.address.removeprefix("shm://"))
        used = max(int(name) for name in os.listdir("/proc/self/fd")) + 1  # noqa: PTH208
        hogs: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    hogs.append(os.dup(0))
            desk.look(2)
            assert desk.poller.poll(10) == [], "nobody is left waiting"
            first.sendall(framed(PUSH))
            assert len(desk.look(2)) == 1, "the others are served"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in hogs:
                os.close(fd)
        assert is_closed(second)
    with desk.connect() as third:
        desk.share(third)
        assert told(third) == Shared(3, False)


def test_workers_that_come_and_go_leave_neither_descriptors_nor_mappings(desk: Desk) -> None:
    desk.look()
    before = descriptors(), mappings()
    for number in range(60):
        with desk.connect() as sock:
            memory = desk.share(sock, weights=Segment.create(NBYTES) if number % 3 == 0 else None)
            _, fds = read(sock)
            for fd in fds:
                os.close(fd)
            sock.sendall(framed(PUSH))
            origin = desk.look()[0][0]
            if number % 2:
                lines.perform(origin, Send(origin, Ok(7)))
                desk.listener.flush()
        desk.look()
        assert origin not in desk.listener
        desk.heard.clear()
        del memory
    desk.kept = None
    desk.listener._weights_memory = None
    assert (descriptors(), mappings()) == before
    assert not desk.listener._by_fd and not desk.listener._by_origin and len(desk.poller.sockets) == 1


def test_memory_stays_while_a_contribution_in_it_waits_though_its_worker_is_gone(desk: Desk) -> None:
    with desk.connect() as sock:
        memory = desk.share(sock)
        memory.part("gradients", CHUNK)[:] = 3
        sock.sendall(framed(PUSH))
        [(_, _, shared)] = desk.look()
        assert shared is not None
        gradient = shared.part("gradients", CHUNK)
    del memory, shared
    desk.heard.clear()
    desk.look()
    gc.collect()
    assert set(gradient) == {3}


def test_a_process_of_another_user_is_turned_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def stranger(sock: socket.socket) -> None:
        raise Unshared("another user")

    monkeypatch.setattr(module, "demand_same_user", stranger)
    before = descriptors()
    with desk.connect() as sock:
        desk.look()
        assert is_closed(sock)
    assert descriptors() == before


def test_closing_closes_everything(tmp_path: Path) -> None:
    before = descriptors()
    desk = Desk(tmp_path)
    with desk.connect() as sock, desk.connect() as other:
        desk.share(sock)
        desk.look()
        desk.listener.close()
        assert is_closed(other)
    desk.heard.clear()
    del desk
    assert descriptors() == before
