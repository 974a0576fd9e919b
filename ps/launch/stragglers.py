"""Stragglers: processes of an earlier run, whose launcher was killed, that have yet to end."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Sequence

SPARE = 5.0
"""Seconds beyond their grace that they may take."""
NAP = 0.05


def outlive(fd: int, limit: float, what: str, say: Callable[[str], None], stop: Sequence[object]) -> bool:
    """Wait, until there is anything in ``stop``, for a lock on a file that each of them has open.

    ``what``: what the earlier run and this one have in common. Return whether they are still there after ``limit``
    seconds.
    """
    deadline, said = time.monotonic() + limit, False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            return False
        if stop:
            return False
        if time.monotonic() > deadline:
            return True
        if not said:
            said = True
            say(f"waiting for the processes of an earlier run with {what} to end, {limit:.0f} s at most")
        time.sleep(NAP)
