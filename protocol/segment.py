"""Segment: memory that two processes of one host hold together. MappedView: an address range that shows part of one.

A segment is an anonymous file in memory (``memfd_create``): it has no name anywhere, so that nothing is left behind
when every process that holds it has ended, however it ended. It is handed over as an open file, through a Unix socket
that only its owner can reach. Its size is sealed, so that no peer can cut it short under another's reads.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ps.errors import BadMessage, Unshared
from ps.xp import HostArray

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
"""Bytes of a huge page where those of x86-64 are; memory is mapped where it may have some."""
LEAST_HUGE = 2 * HUGE
"""Bytes from which on huge pages are asked for: to gather 40 MB in some takes 15 ms once, and a step gains 2 to 8 %."""
_SEALS = getattr(fcntl, "F_SEAL_SEAL", 1) | getattr(fcntl, "F_SEAL_SHRINK", 2) | getattr(fcntl, "F_SEAL_GROW", 4)
_MAP_FAILED = ctypes.c_void_p(-1).value


def pages(nbytes: int) -> int:
    """Return the size rounded up to whole pages."""
    return -(-nbytes // PAGE) * PAGE


class Segment:
    """One piece of shared memory; it lives as long as somebody has it open or mapped."""

    def __init__(self, fd: int, nbytes: int) -> None:
        self.fd = fd
        self.nbytes = nbytes
        _at_last(self, os.close, fd)

    @classmethod
    def create(cls, nbytes: int) -> Segment:
        """Return a new segment of zeros. Raises Unshared where there is no such memory, or no more of it."""
        if not sys.platform.startswith("linux"):
            raise Unshared(f"shared memory is used on Linux only, this is {sys.platform}")
        try:
            fd = os.memfd_create("ps", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise Unshared(f"no shared memory can be made: {error.strerror}") from None
        made = cls(fd, nbytes)
        try:
            os.ftruncate(fd, nbytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            raise Unshared(f"no shared memory of {nbytes} bytes: {error.strerror}") from None
        return made

    @classmethod
    def adopt(cls, fd: int, nbytes: int) -> Segment:
        """Return the segment that a peer handed over. Raises BadMessage unless it is one of at least ``nbytes``.

        The descriptor is taken over, and closed when it is refused.
        """
        made = cls(fd, nbytes)
        try:
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:
            raise BadMessage("what was handed over is no shared memory") from None
        size = os.fstat(fd).st_size
        if sealed & _SEALS != _SEALS or size < nbytes:
            raise BadMessage(f"shared memory of {size} bytes that may shrink; expected a sealed one of {nbytes}")
        return made

    @property
    def identity(self) -> tuple[int, int]:
        """What is equal for two descriptors of one segment, in any process of the host."""
        about = os.fstat(self.fd)
        return about.st_dev, about.st_ino

    @property
    def size(self) -> int:
        """Its bytes, as the system has it."""
        return os.fstat(self.fd).st_size

    def reserve(self, offset: int, nbytes: int) -> None:
        """Have the system set the memory aside now, so that nobody dies later when there is none.

        Raises Unshared when there is not enough.
        """
        try:
            os.posix_fallocate(self.fd, offset, nbytes)
        except OSError as error:
            raise Unshared(f"no room for {nbytes} bytes of shared memory: {error.strerror}") from None
        first, end = -(-offset // HUGE) * HUGE, (offset + nbytes) // HUGE * HUGE
        if end - first >= LEAST_HUGE:
            with contextlib.suppress(Unshared):
                MappedView(self, first, end - first, writable=True).collapse()

    def array(self, offset: int, nbytes: int) -> HostArray:
        """Map a part that begins at a whole page and return it as uint8; it is unmapped with the last view of it.

        Raises Unshared when the address space or the system's number of mappings is used up, or it may not be written.
        """
        return MappedView(self, offset, nbytes, writable=True).array


class MappedView:
    """An address range that shows a part of a segment, and can be turned to another without moving.

    Arrays that a script holds stay valid, and see the other memory from then on.
    """

    def __init__(self, segment: Segment, offset: int, nbytes: int, *, writable: bool) -> None:
        """Raises Unshared when the memory cannot be mapped."""
        self._size = pages(nbytes)
        self._writable = writable
        place = _huge_place(self._size) if offset % HUGE == 0 else None
        try:
            self._address = self._map(place, segment, offset)
        except Unshared:
            if place is not None:
                _libc().munmap(place, self._size)
            raise
        held = (ctypes.c_uint8 * nbytes).from_address(self._address)
        _at_last(held, _libc().munmap, self._address, self._size)
        seen = memoryview(held)
        self.array: HostArray = np.frombuffer(seen if writable else seen.toreadonly(), np.uint8)
        """What is seen, as uint8."""

    def turn(self, segment: Segment, offset: int) -> None:
        """Show a part of another segment, of the same size. Raises Unshared."""
        self._map(self._address, segment, offset)

    def collapse(self) -> None:
        """Have the system keep the memory in huge pages, for all who map it, where it can and there are any."""
        _libc().madvise(self._address, self._size, _MADV_COLLAPSE)

    def _map(self, address: int | None, segment: Segment, offset: int) -> int:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if self._writable else 0)
        flags = mmap.MAP_SHARED | (_MAP_FIXED if address is not None else 0)
        got = _libc().mmap(address, self._size, protection, flags, segment.fd, offset)
        if got is None or got == _MAP_FAILED:
            raise Unshared(f"{self._size} bytes of shared memory cannot be mapped: {os.strerror(ctypes.get_errno())}")
        return int(got)


_PROT_NONE, _MAP_FIXED = 0, 0x10
_MADV_COLLAPSE = 25
"""Linux 6.1 on. Unlike the advice that asks for huge pages it needs no setting of the system's for shared memory."""


def _huge_place(size: int) -> int | None:
    """Return where as much as this can be mapped in huge pages, and is kept free for it; None where that is nowhere."""
    if size < HUGE:
        return None
    libc = _libc()
    found = libc.mmap(None, size + HUGE, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if found is None or found == _MAP_FAILED:
        return None
    place = -(-found // HUGE) * HUGE
    if place > found:
        libc.munmap(found, place - found)
    if place < found + HUGE:
        libc.munmap(place + size, found + HUGE - place)
    return int(place)


def _at_last(owner: Any, act: Callable[..., object], *args: Any) -> None:
    """Act when the owner is gone; not before that at the process's end, which frees everything anyway."""
    weakref.finalize(owner, act, *args).atexit = False


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
