"""How a process treats memory that it uses again and again."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator

from ps.errors import ConfigError, PSError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_THRESHOLD = 32 << 20
KEPT = 64 << 20
"""Bytes at the end of the heap that are kept free, at most, in a process that is a script's and not ours alone."""


def keep_freed_memory(at_most: int = KEPT) -> None:
    """Tell the C library to keep freed memory for the next message instead of giving it back to the system.

    A step allocates and frees the same blocks again and again: received chunks, a model's intermediate results.
    Given back and faulted in anew each time they cost more than the exchange itself (measured: 40 MB over ipc in
    65 ms so, in 39 ms with this; the MNIST CNN a quarter to a third faster, whose step has 7,000 page faults so, and
    none with this).

    What is freed beyond ``at_most`` bytes goes back to the system. Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, at_most)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Look for no reference cycles meanwhile: for loading modules, which make many objects, and all of them stay.

    (Measured: a tenth of the time in which a role starts.)
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def collect_seldom() -> None:
    """Look for reference cycles less often: a server's loop makes thousands of small objects a second and no cycles.

    Garbage that is not in a cycle is freed at once all the same. (Measured: a tenth of the server's time.)
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def check_fits(nbytes: int, what: str, error: type[PSError] = ConfigError) -> None:
    """Raise ``error`` where so many bytes are more than this machine has: asked for, they would end others."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return
    if nbytes > memory:
        raise error(f"{what} need {nbytes / 1e9:,.1f} GB, and this machine has {memory / 1e9:,.1f} GB of memory")
