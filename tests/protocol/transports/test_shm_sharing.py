"""Promises of sharing: memory that cannot be mapped is refused and costs nothing, and only what was asked for stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable

import pytest

from ps.protocol.codec import encode
from ps.protocol.messages import Error, Inquire, Share, Shared
from ps.protocol.segment import Segment
from ps.protocol.worker_memory import WorkerMemory
from support.held import descriptors, mappings
from support.shm_desk import CHUNK, NBYTES, PUSH, Desk, framed, is_closed, told

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
        message = framed(encode(Share(4, 7, NBYTES, False)))
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
            socket.send_fds(sock, [framed(encode(Share(4, 7, NBYTES, True)))], fds)
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
        socket.send_fds(sock, [framed(encode(Share(4, 7, nbytes, False)))], [fd])
        os.close(fd)
        desk.look()
        answer = told(sock)
        assert isinstance(answer, Error) and answer.code == "shm"


def test_memory_beyond_the_address_space_is_refused(desk: Desk) -> None:
    with desk.connect() as sock:
        nbytes = 1 << 60
        segment = Segment.create(WorkerMemory.size(nbytes))
        socket.send_fds(sock, [framed(encode(Share(4, 7, nbytes, False)))], [segment.fd])
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
            socket.send_fds(sock, [framed(encode(Share(4, 7, NBYTES, False)))], [fd])
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
