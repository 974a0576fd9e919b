"""What memory allows: the update in place, on one core and on two, and a copy of the same bytes, in one process."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from race.case import Case, Launch, Options, Setup

MODULE = __name__


TWO = "in place, 2 threads"
"""The case by which the machine's memory is judged."""
PASSES = 3


class Loop:
    """One NumPy call over the model, again and again."""

    def __init__(self, call: Callable[[], object], model: np.ndarray) -> None:
        self._call = call
        self.model = model

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._call()

    def weights(self) -> None:
        return None

    def close(self) -> None:
        pass


def shared(array: np.ndarray) -> np.ndarray:
    """Return a copy in memory that other processes could map."""
    copy = np.frombuffer(mmap.mmap(-1, array.nbytes), array.dtype)
    np.copyto(copy, array)
    return copy


def absent(options: Options) -> str:
    return ""


def cases(setup: Setup) -> list[Case]:
    return [
        Case(
            "in place",
            MODULE,
            "limit",
            "np.subtract(w, g, out=w) in one process",
            "no exchange, no learning rate, one gradient",
            {"what": "update"},
            ranks=1,
            passes=PASSES,
        ),
        Case(
            TWO,
            MODULE,
            "limit",
            "the same, a half of it on each of two threads",
            "no exchange, no learning rate, one gradient",
            {"what": "update", "threads": 2},
            ranks=1,
            passes=PASSES,
        ),
        Case(
            "in place, shared memory",
            MODULE,
            "limit",
            "the same over two shared anonymous mappings: where they cannot have huge pages, private memory is faster",
            "no exchange, no learning rate, one gradient",
            {"what": "update", "shared": True},
            ranks=1,
            passes=PASSES,
        ),
        Case(
            "memcpy",
            MODULE,
            "limit",
            "np.copyto(w, g) in one process",
            "copies only",
            {"what": "copy"},
            ranks=1,
            passes=2,
        ),
    ]


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return ""


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Loop:
    w, g = setup.weights(), setup.gradient(rank)
    if options.get("shared"):
        w, g = shared(w), shared(g)
    if options["what"] == "copy":
        return Loop(lambda: np.copyto(w, g), w)
    if options.get("threads"):
        half = w.size // 2
        parts = [(w[:half], g[:half]), (w[half:], g[half:])]
        pool = ThreadPoolExecutor(2)
        return Loop(lambda: list(pool.map(lambda part: np.subtract(*part, out=part[0]), parts)), w)
    return Loop(lambda: np.subtract(w, g, out=w), w)
