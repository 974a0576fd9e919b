"""Promises of shared memory: both see it, nobody can cut it short, nothing is left of it, and a window stays put."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ps.errors import BadMessage, Unshared
from ps.protocol import segment as module
from ps.protocol.segment import HUGE, PAGE, MappedView, Segment, pages
from support.held import descriptors, mappings

SIZE = 3 * PAGE


def handed_over(segment: Segment, nbytes: int = SIZE) -> Segment:
    """Return the segment as a peer has it."""
    return Segment.adopt(os.dup(segment.fd), nbytes)


def test_both_sides_see_what_the_other_writes() -> None:
    mine = Segment.create(SIZE)
    theirs = handed_over(mine)
    a, b = mine.array(0, SIZE), theirs.array(PAGE, PAGE)
    assert not a.any()
    a[PAGE + 5] = 7
    assert b[5] == 7
    b[6] = 8
    assert a[PAGE + 6] == 8
    assert mine.identity == theirs.identity != Segment.create(SIZE).identity


def test_a_segment_has_no_name_and_leaves_no_file() -> None:
    before = set(Path("/dev/shm").iterdir())
    segment = Segment.create(SIZE)
    segment.array(0, SIZE)[:] = 1
    assert set(Path("/dev/shm").iterdir()) == before
    assert os.fstat(segment.fd).st_nlink == 0


def test_its_size_is_sealed_for_all_who_hold_it() -> None:
    segment = Segment.create(SIZE)
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(segment.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def unsealed() -> int:
    fd = os.memfd_create("other", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    return fd


def half_sealed(seals: int) -> Callable[[], int]:
    def make() -> int:
        fd = unsealed()
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    return make


def small() -> int:
    segment = Segment.create(SIZE - 1)
    return os.dup(segment.fd)


def plain_file() -> int:
    return os.open(__file__, os.O_RDONLY)


def pipe() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (plain_file, "no shared memory"),
        (pipe, "no shared memory"),
        (unsealed, "may shrink"),
        (half_sealed(fcntl.F_SEAL_GROW), "may shrink"),
        (half_sealed(fcntl.F_SEAL_SHRINK), "may shrink"),
        (half_sealed(fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW), "may shrink"),
        (small, f"{SIZE - 1} bytes"),
    ],
    ids=["file", "pipe", "unsealed", "may shrink", "may grow", "more seals may come", "too small"],
)
def test_what_is_no_sealed_memory_of_the_size_is_refused_and_closed(make: Callable[[], int], why: str) -> None:
    before = descriptors()
    with pytest.raises(BadMessage, match=why):
        Segment.adopt(make(), SIZE)
    assert descriptors() == before


@pytest.mark.parametrize("how", ["read-only", "sealed against writes"])
def test_memory_that_may_not_be_written_is_said_when_it_is_mapped(how: str) -> None:
    if how == "read-only":
        segment = Segment.create(SIZE)
        adopted = Segment.adopt(os.open(f"/proc/self/fd/{segment.fd}", os.O_RDONLY), SIZE)
    else:
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        adopted = Segment.adopt(half_sealed(seals)(), SIZE)
    with pytest.raises(Unshared, match="cannot be mapped"):
        adopted.array(0, SIZE)


@pytest.mark.parametrize(("code", "named"), [(errno.ENOSPC, "No space left"), (errno.ENOMEM, "Cannot allocate")])
def test_memory_that_cannot_be_had_is_said_before_anybody_writes_it(
    monkeypatch: pytest.MonkeyPatch, code: int, named: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(Unshared, match=f"no room for {PAGE} bytes of shared memory: {named}"):
        Segment.create(SIZE).reserve(0, PAGE)


@pytest.mark.parametrize("call", ["memfd_create", "ftruncate"])
def test_a_system_without_descriptors_or_memory_is_said(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module.os, call, refuse)
    before = descriptors()
    with pytest.raises(Unshared, match="Too many open files"):
        Segment.create(SIZE)
    assert descriptors() == before


def test_other_systems_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "platform", "darwin")
    with pytest.raises(Unshared, match="on Linux only, this is darwin"):
        Segment.create(SIZE)


def test_what_is_reserved_is_there() -> None:
    segment = Segment.create(SIZE)
    segment.reserve(PAGE, PAGE)
    assert os.fstat(segment.fd).st_blocks * 512 == PAGE


def test_more_than_the_address_space_is_refused() -> None:
    segment = Segment.create(1 << 62)
    with pytest.raises(Unshared, match="cannot be mapped"):
        segment.array(0, 1 << 62)


def test_memory_stays_as_long_as_an_array_shows_it_and_no_longer() -> None:
    fds, maps = descriptors(), mappings()
    array = Segment.create(SIZE).array(0, SIZE)
    view = array[10:20].view(np.int16)
    del array
    view[:] = 5
    assert descriptors() == fds and mappings() == maps + 1
    del view
    assert mappings() == maps


# Windows


def test_a_window_shows_what_others_write_and_cannot_be_written() -> None:
    segment = Segment.create(SIZE)
    window = MappedView(segment, 0, SIZE - 10, writable=False)
    assert window.array.nbytes == SIZE - 10
    segment.array(0, SIZE)[3] = 9
    assert window.array[3] == 9
    with pytest.raises(ValueError, match="read-only"):
        window.array[0] = 1


def test_the_system_keeps_a_window_from_being_written_whatever_is_tried() -> None:
    code = (
        "import ctypes; from ps.protocol.segment import *\n"
        "window = MappedView(Segment.create(PAGE), 0, PAGE, writable=False)\n"
        "print('looking', flush=True)\n"
        "ctypes.memset(window.array.ctypes.data, 1, 1)\n"
        "print('wrote')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "looking\n" and done.returncode < 0


def test_a_window_turns_to_other_memory_under_the_arrays_that_show_it() -> None:
    home, own = Segment.create(SIZE), Segment.create(2 * SIZE)
    home.array(0, SIZE)[:] = 1
    own.array(SIZE, SIZE)[:] = 2
    window = MappedView(home, 0, SIZE, writable=False)
    view = window.array.view(np.float32)[4:]
    address = view.ctypes.data
    assert set(view.view(np.uint8)) == {1}
    window.turn(own, SIZE)
    assert set(view.view(np.uint8)) == {2} and view.ctypes.data == address
    home.array(0, SIZE)[:] = 3
    assert set(view.view(np.uint8)) == {2}
    own.array(SIZE, SIZE)[20] = 4
    assert window.array[20] == 4


def test_a_window_that_cannot_be_written_stays_so_when_it_turns_and_whatever_numpy_is_told() -> None:
    window = MappedView(Segment.create(SIZE), 0, SIZE, writable=False)
    window.turn(Segment.create(SIZE), 0)
    with pytest.raises(ValueError, match="WRITEABLE"):
        window.array.flags.writeable = True
    where = f"{window.array.ctypes.data:x}-"
    (line,) = (line for line in Path("/proc/self/maps").read_text().splitlines() if line.startswith(where))
    assert " r--s " in line


def test_windows_come_and_go_without_a_trace() -> None:
    home, own = Segment.create(SIZE), Segment.create(SIZE)
    fds, maps = descriptors(), mappings()
    for _ in range(50):
        window = MappedView(home, 0, SIZE, writable=False)
        window.turn(own, 0)
        del window
    assert (descriptors(), mappings()) == (fds, maps)


def test_large_memory_is_mapped_where_it_can_have_huge_pages_and_keeps_what_is_in_it() -> None:
    size = 3 * HUGE + PAGE
    segment = Segment.create(size)
    first = segment.array(0, size)
    first[[0, HUGE, size - 1]] = 1, 2, 3
    segment.reserve(0, size)
    again = segment.array(0, size)
    assert [array.ctypes.data % HUGE for array in (first, again)] == [0, 0]
    assert list(again[[0, HUGE, size - 1]]) == list(first[[0, HUGE, size - 1]]) == [1, 2, 3]
    assert again.sum() == 6
    assert segment.size == os.fstat(segment.fd).st_blocks * 512 == size


def test_huge_pages_take_no_memory_that_was_not_set_aside() -> None:
    segment = Segment.create(8 * HUGE)
    segment.reserve(PAGE, 4 * HUGE)
    assert os.fstat(segment.fd).st_blocks * 512 == 4 * HUGE


def test_large_windows_come_and_go_without_a_trace_also_where_they_cannot_be_mapped() -> None:
    segment = Segment.create(4 * HUGE)
    segment.reserve(0, 4 * HUGE)
    fds, maps = descriptors(), mappings()
    for _ in range(5):
        array = segment.array(0, 4 * HUGE)
        segment.reserve(0, 4 * HUGE)
        del array
    closed = Segment(os.open(os.devnull, os.O_RDWR), 4 * HUGE)
    with pytest.raises(Unshared):
        closed.array(0, 4 * HUGE)
    del closed
    assert (descriptors(), mappings()) == (fds, maps)


def test_pages_are_whole() -> None:
    assert [pages(n) for n in (0, 1, PAGE, PAGE + 1)] == [0, PAGE, PAGE, 2 * PAGE]
    assert mmap.PAGESIZE == PAGE
