"""ThreadTeam: threads that share out one piece of work over arrays, block by block.

NumPy lets go of the interpreter's lock inside its loops, so that threads do arithmetic side by side. What is done
with a block is the caller's affair.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ps.xp import HostArray

Work: TypeAlias = Callable[[int, int], None]
"""``work(lo, hi)`` does elements ``lo`` to ``hi``, on whichever thread calls it, whatever becomes of the others."""

LEAST_BYTES = 3 << 20
"""Bytes of all arrays together below which a thread does not pay: 2 MB chunks take two threads for momentum, Adam or
several gradients, plain SGD takes them from 3 MB on. Measured on two cores: a thread wakes 35 to 50 µs after it is
called, one does 1 MB of SGD in 95 µs, of Adam in 370."""

ALIGN = 64
"""Threads get multiples of so many elements, so that no two write to one cache line."""


class ThreadTeam:
    """The calling thread and ``threads - 1`` more, which start with the first work that is worth it.

    Several threads may call one team at the same time, and work may call it again: whoever calls does what nobody
    else takes. The threads end with the team or the process; after a fork the child's team has threads of its own.
    """

    def __init__(self, threads: int = 1, *, least_bytes: int = LEAST_BYTES) -> None:
        """``least_bytes``: what ``share`` wants each thread to go through."""
        self.threads = threads
        self._least_bytes = least_bytes
        self._helpers: list[Helper] = []
        self._process = 0
        """The process that the helpers live in; a fork leaves them behind."""

    def run(self, work: Work, size: int, grain: int) -> None:
        """Do ``work`` for every block of ``grain`` elements of ``size``; return when all is done.

        A single thread does them in order. What a block raises is raised here, from the first block that does,
        as soon as no thread is at work any more; blocks behind it may have been done or not.
        """
        self._run(work, size, grain, self.threads)

    def share(self, work: Work, size: int, most: int, nbytes: int) -> None:
        """Do ``work`` in blocks of at most ``most`` elements, on as many threads as its ``nbytes`` of arrays pay for.

        Each thread has as many blocks; the caller must not care where they are cut.
        """
        threads = max(1, min(self.threads, nbytes // self._least_bytes))
        if threads > 1:
            blocks = -(-size // (most * threads)) * threads
            most = min(most, -(-size // (blocks * ALIGN)) * ALIGN)
        self._run(work, size, most, threads)

    def copy(self, target: HostArray, source: HostArray) -> None:
        """Copy a 1-D array into another of its length and type."""
        nbytes = target.nbytes + source.nbytes
        self.share(lambda lo, hi: np.copyto(target[lo:hi], source[lo:hi]), target.size, max(1, target.size), nbytes)

    def _run(self, work: Work, size: int, grain: int, threads: int) -> None:
        helpers = min(threads, -(-size // grain)) - 1
        if helpers < 1:
            for lo in range(0, size, grain):
                work(lo, min(lo + grain, size))
            return
        if self._process != os.getpid():
            self._helpers = [Helper() for _ in range(self.threads - 1)]
            weakref.finalize(self, dismiss, self._helpers)
            self._process = os.getpid()
        loop = ParallelLoop(work, size, grain)
        for helper in self._helpers[:helpers]:
            helper.give(loop)
        loop.lead()


class ParallelLoop:
    """One piece of work, from which any number of threads take block after block."""

    def __init__(self, work: Work, size: int, grain: int) -> None:
        self._work = work
        self._size = size
        self._grain = grain
        self._errors = np.geterr()
        self._lock = threading.Lock()
        self._next = 0
        self._helping = 0
        self._alone = threading.Lock()
        """Held while a helper is at work."""
        self._failures: list[tuple[int, BaseException]] = []

    def lead(self) -> None:
        """Do what no helper takes, wait until the helpers are done, raise what went wrong."""
        try:
            self._take()
        finally:
            with self._lock:
                self._next = self._size
            with self._alone:
                del self._work
        if self._failures:
            _, error = min(self._failures, key=lambda failure: failure[0])
            self._failures.clear()
            raise error

    def help(self) -> None:
        """Take part, with the leader's handling of floating-point errors, unless all is taken."""
        with self._lock:
            if self._next >= self._size:
                return
            self._helping += 1
            if self._helping == 1:
                self._alone.acquire()
        try:
            with np.errstate(**self._errors):
                self._take()
        finally:
            with self._lock:
                self._helping -= 1
                if self._helping == 0:
                    self._alone.release()

    def _take(self) -> None:
        # Blocks begin in order, so that the first one that fails has begun whenever another failed.
        while True:
            with self._lock:
                lo = self._next
                if lo >= self._size:
                    return
                self._next = hi = min(lo + self._grain, self._size)
            try:
                self._work(lo, hi)
            except BaseException as error:
                with self._lock:
                    self._next = self._size
                    self._failures.append((lo, error))


class Helper:
    """A thread that waits for loops. Only the latest that it was given counts: its giver does all that it does not."""

    def __init__(self) -> None:
        self._loop: ParallelLoop | None = None
        self._bell = threading.Lock()
        self._bell.acquire()
        threading.Thread(target=self._serve, name="ps-team", daemon=True).start()

    def give(self, loop: ParallelLoop | None) -> None:
        """Wake the thread for a loop; for None it ends."""
        self._loop = loop
        with contextlib.suppress(RuntimeError):  # it was woken and has not looked yet
            self._bell.release()

    def _serve(self) -> None:
        while True:
            self._bell.acquire()
            loop = self._loop
            if loop is None:
                return
            loop.help()


NICE = 5
"""What a thread that gives way adds to its niceness: it has a third of what others have where there is not enough."""


def give_way(by: int = NICE) -> None:
    """Have the calling thread come after others where processors are short (Linux; elsewhere a thread has no say)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)


def dismiss(helpers: Sequence[Helper]) -> None:
    """End the threads."""
    for helper in helpers:
        helper.give(None)
