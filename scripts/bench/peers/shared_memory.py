"""The floor in shared memory: gradients and weights lie there, workers update a part each between two barriers.

No server, no messages, no membership: what is left is the arithmetic, in NumPy, and a byte each way over a Unix socket.
"""

from __future__ import annotations

import mmap
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from race.case import LR, Case, Launch, Options, Setup

MODULE = __name__
BLOCK = 1 << 18
"""Elements that are added up and applied at a time: they stay in the cache."""
PATIENCE = 60.0


def absent(options: Options) -> str:
    return "" if hasattr(os, "memfd_create") else "this system has no memfd_create"


def cases(setup: Setup) -> list[Case]:
    words = "one mapping for all, a part of the update each, a barrier before and one after"
    return [
        Case(
            "shared memory, barrier",
            MODULE,
            "limit",
            words,
            "no server, no membership, no check; all end when one does",
            passes=setup.workers + 2,
        )
    ]


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return str(launch.directory / "barrier")


class Barrier:
    """Where ranks wait for each other: rank 0 hears a byte of each, and answers all."""

    def __init__(self, rank: int, workers: int, path: str) -> None:
        self.first = rank == 0
        if self.first:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.settimeout(PATIENCE)
                listener.bind(path + ".new")
                listener.listen()
                Path(path + ".new").rename(path)  # who finds it may connect
                self.others = [listener.accept()[0] for _ in range(1, workers)]
        else:
            deadline = time.monotonic() + PATIENCE
            while not Path(path).exists():
                if time.monotonic() > deadline:
                    raise TimeoutError("rank 0 has not come")
                time.sleep(0.01)
            self.others = [socket.socket(socket.AF_UNIX)]
            self.others[0].connect(path)
        for other in self.others:
            other.settimeout(PATIENCE)

    def share(self, nbytes: int) -> mmap.mmap:
        """Return zeroed memory that all ranks map."""
        if self.first:
            fd = os.memfd_create("bench")
            os.truncate(fd, nbytes)
            for other in self.others:
                socket.send_fds(other, [b"m"], [fd])
        else:
            _, (fd, *_), *_ = socket.recv_fds(self.others[0], 1, 1)
        try:
            return mmap.mmap(fd, nbytes)
        finally:
            os.close(fd)

    def wait(self) -> None:
        """Return when all ranks are here. Raises EOFError when one is gone."""
        if not self.first:
            self.others[0].send(b"b")
        if not all(other.recv(1) for other in self.others):
            raise EOFError("a rank is gone")
        if self.first:
            for other in self.others:
                other.send(b"b")

    def close(self) -> None:
        """Let go of the others."""
        for other in self.others:
            other.close()


class Worker:
    """Has its gradient where the others read it, and updates its part of the weights."""

    def __init__(self, setup: Setup, rank: int, meeting: str) -> None:
        self._barrier = Barrier(rank, setup.workers, meeting)
        room = self._barrier.share((1 + setup.workers) * setup.nbytes)
        self._all, *gradients = np.frombuffer(room, np.float32).reshape(-1, setup.size)
        gradients[rank][:] = setup.gradient(rank)
        if rank == 0:
            self._all[:] = setup.weights()
        lo, hi = (setup.size * end // setup.workers for end in (rank, rank + 1))
        blocks = [slice(at, min(at + BLOCK, hi)) for at in range(lo, hi, BLOCK)]
        self._parts = [(self._all[block], [g[block] for g in gradients]) for block in blocks]
        self._total = np.empty(BLOCK, np.float32)
        self._rate = LR / setup.workers

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._barrier.wait()
            for w, (first, *more) in self._parts:
                total = self._total[: w.size]
                for gradient in more:
                    np.add(first, gradient, out=total)
                    first = total
                np.multiply(first, self._rate, out=total)
                np.subtract(w, total, out=w)
            self._barrier.wait()

    def weights(self) -> np.ndarray:
        return self._all

    def close(self) -> None:
        self._barrier.close()


def serve(setup: Setup, options: Options, index: int, announce: Callable[[str], None]) -> None:
    raise NotImplementedError("there is no server")


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Worker:
    return Worker(setup, rank, meeting)
