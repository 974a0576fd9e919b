"""Promises of a ShmListener: what peers with bad manners send is counted and costs nobody else anything."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from held import descriptors, mappings

from ps.errors import BadMessage, Unshared
from ps.protocol.codec import MAX_HEADER, decode, encode
from ps.protocol.layout import Layout
from ps.protocol.messages import Error, Inquire, Message, Ok, Pull, Push, Pushed, Share, Shared, Weights
from ps.protocol.segment import PAGE, Segment
from ps.protocol.unix_channel import MAX_UNSENT
from ps.protocol.worker_memory import WorkerMemory
from ps.server.loan import Loan
from ps.server.send import Send
from ps.server.shard import shm_listener as module
from ps.server.shard.shm_listener import ShmListener
from ps.xp import HostArray

NBYTES = 2 * PAGE
LAYOUT = Layout.of({"w": np.zeros(NBYTES // 4, np.float32)})
[CHUNK] = LAYOUT.chunks(1, NBYTES)
PUSH = encode(Push(7, 1, 0, 0, 0, 1.0, 1.0, True))


class Desk:
    """ShmListener without a server around them: a test says when they look, and what they answer."""

    def __init__(self, directory: Path) -> None:
        self.poller = zmq.Poller()
        self.rejected: Counter[str] = Counter()
        self.listener = ShmListener(directory, self.poller, self.rejected)
        self.heard: list[tuple[bytes, Any, WorkerMemory | None]] = []
        self.kept: HostArray | None = None

    def look(self, turns: int = 5) -> list[tuple[bytes, Any, WorkerMemory | None]]:
        """Do what a server's loop does until nothing is left to do; return what was heard meanwhile."""
        before = len(self.heard)
        for _ in range(turns):
            events = dict(self.poller.poll(3))
            for origin, message, memory in self.listener.receive(events):
                if isinstance(message, Share):
                    self.listener.share(origin, message, self.weights_memory)
                else:
                    self.heard.append((origin, message, memory))
        return self.heard[before:]

    def weights_memory(self, offered: HostArray | None) -> HostArray | None:
        self.kept = self.kept if offered is None else offered
        return self.kept

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        sock.connect(self.listener.address.removeprefix("shm://"))
        return sock

    def share(self, sock: socket.socket, nbytes: int = NBYTES, weights: Segment | None = None) -> WorkerMemory:
        """Share memory as a worker does."""
        memory = WorkerMemory.create(nbytes)
        fds = [memory.segment.fd, *([weights.fd] if weights else [])]
        socket.send_fds(sock, [framed(encode(Share(3, nbytes, weights is not None)))], fds)
        self.look()
        return memory


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.listener.close()


def framed(*headers: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(header)) + header for header in headers)


def read(sock: socket.socket) -> tuple[Message, list[int]]:
    """Return the next message, and the open files that came with it."""
    head, fds, _, _ = socket.recv_fds(sock, 4, 4)
    assert len(head) == 4, "the channel was closed"
    body = b""
    while len(body) < struct.unpack("<I", head)[0]:
        body += sock.recv(struct.unpack("<I", head)[0] - len(body))
    return decode(body), list(fds)


def told(sock: socket.socket) -> Message:
    message, fds = read(sock)
    assert not fds
    return message


def is_closed(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        while sock.recv(1 << 20):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


# Good manners


def test_a_worker_that_shares_memory_is_heard_with_it_and_gets_weights_into_it(desk: Desk) -> None:
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
            desk.listener.perform(origin, Send(origin, Weights(7, 0, 1, 0), loan, aside))
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
        assert desk.look() == [] and desk.rejected.total() == 1
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
        desk.listener.perform(origin, Send(origin, Weights(9, 0, 1, 0), loan))
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
        desk.listener.perform(origin, Send(origin, Weights(9, 0, 1, 0), loan))
        desk.listener.flush()
        answer = told(sock)
        assert isinstance(answer, Error) and answer.request == 9 and f"is for {NBYTES - 100}" in answer.text
        assert memory is not None and loan.done
        with pytest.raises(BadMessage):
            memory.part("gradients", CHUNK)


# Memory that is none


def good_fd() -> int:
    segment = Segment.create(WorkerMemory.size(NBYTES))
    return os.dup(segment.fd)


def small_fd() -> int:
    segment = Segment.create(WorkerMemory.size(NBYTES) - 1)
    return os.dup(segment.fd)


def read_only_fd() -> int:
    segment = Segment.create(WorkerMemory.size(NBYTES))
    return os.open(f"/proc/self/fd/{segment.fd}", os.O_RDONLY)


def sealed_fd(seals: int) -> Callable[[], int]:
    def make() -> int:
        fd = os.memfd_create("other", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, WorkerMemory.size(NBYTES))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    return make


def pipe_fd() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


SHRINK, GROW, SEAL, WRITE = fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SEAL, fcntl.F_SEAL_WRITE
BAD: dict[str, list[Callable[[], int]]] = {
    "none": [],
    "too many": [good_fd, good_fd],
    "a plain file": [lambda: os.open(__file__, os.O_RDONLY)],
    "a pipe": [pipe_fd],
    "a device": [lambda: os.open("/dev/zero", os.O_RDWR)],
    "unsealed": [sealed_fd(0)],
    "may shrink": [sealed_fd(GROW | SEAL)],
    "seals may come": [sealed_fd(GROW | SHRINK)],
    "sealed against writes": [sealed_fd(SHRINK | GROW | SEAL | WRITE)],
    "read-only": [read_only_fd],
    "too small": [small_fd],
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_mapped_is_refused_and_closed_and_the_reason_is_told(desk: Desk, what: str) -> None:
    with desk.connect() as sock:
        desk.look()
        before = descriptors(), mappings()
        fds = [make() for make in BAD[what]]
        message = framed(encode(Share(4, NBYTES, False)))
        if fds:
            socket.send_fds(sock, [message], fds)
        else:
            sock.sendall(message)
        for fd in fds:
            os.close(fd)
        desk.look()
        answer = told(sock)
        assert isinstance(answer, Error) and (answer.request, answer.code) == (4, "shm") and answer.text
        assert desk.rejected == {"shm": 1}
        assert (descriptors(), mappings()) == before
        sock.sendall(framed(PUSH))
        assert desk.look() == [] and isinstance(told(sock), Error), "nothing was shared"


def test_memory_for_the_weights_that_cannot_be_mapped_is_refused_with_the_rest(desk: Desk) -> None:
    with desk.connect() as sock:
        desk.look()
        before = descriptors(), mappings()
        for make in (pipe_fd, sealed_fd(0), sealed_fd(SHRINK | GROW | SEAL | WRITE)):
            fds = [good_fd(), make()]
            socket.send_fds(sock, [framed(encode(Share(4, NBYTES, True)))], fds)
            for fd in fds:
                os.close(fd)
            desk.look()
            answer = told(sock)
            assert isinstance(answer, Error) and answer.code == "shm"
            assert desk.kept is None
        assert (descriptors(), mappings()) == before


@pytest.mark.parametrize("nbytes", [0, 1 << 50, 1 << 61, (1 << 63) - 1])
def test_a_size_that_cannot_be_is_refused(desk: Desk, nbytes: int) -> None:
    with desk.connect() as sock:
        fd = good_fd()
        socket.send_fds(sock, [framed(encode(Share(4, nbytes, False)))], [fd])
        os.close(fd)
        desk.look()
        answer = told(sock)
        assert isinstance(answer, Error) and answer.code == "shm"


def test_memory_beyond_the_address_space_is_refused(desk: Desk) -> None:
    with desk.connect() as sock:
        nbytes = 1 << 60
        segment = Segment.create(WorkerMemory.size(nbytes))
        socket.send_fds(sock, [framed(encode(Share(4, nbytes, False)))], [segment.fd])
        desk.look()
        answer = told(sock)
        assert isinstance(answer, Error) and "cannot be mapped" in answer.text


def test_memory_is_shared_once_on_a_line(desk: Desk) -> None:
    with desk.connect() as sock:
        memory = desk.share(sock)
        assert told(sock) == Shared(3, False)
        before = descriptors(), mappings()
        for _ in range(3):
            fd = good_fd()
            socket.send_fds(sock, [framed(encode(Share(4, NBYTES, False)))], [fd])
            os.close(fd)
            desk.look()
            answer = told(sock)
            assert isinstance(answer, Error) and answer.code == "shm"
        assert (descriptors(), mappings()) == before
        memory.part("gradients", CHUNK)[0] = 5
        sock.sendall(framed(PUSH))
        [(_, _, shared)] = desk.look()
        assert shared is not None and shared.part("gradients", CHUNK)[0] == 5


def test_open_files_without_a_share_do_not_pile_up(desk: Desk) -> None:
    with desk.connect() as sock:
        desk.look()
        before = descriptors()
        with open(os.devnull) as null, contextlib.suppress(OSError):  # noqa: PTH123
            for number in range(50):
                message = framed(encode(Inquire(number, 1, ())))
                socket.send_fds(sock, [message], [null.fileno()] * 2)
                desk.look(1)
                assert descriptors() <= before + 4
        desk.look()
        assert is_closed(sock) and desk.rejected["frames"] == 1
        assert descriptors() <= before


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
                desk.listener.perform(origin, Send(origin, Error(9, "bad-message", "x" * 400)))
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
            desk.listener.perform(origin, Send(origin, big))
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
            desk.listener.perform(origin, Send(origin, Pushed(number, 0, 0, 0)))
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
                desk.listener.perform(origin, Send(origin, Ok(7)))
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
