"""Cores: how many this process may use, and how many threads it takes for them. Loads nothing: launchers ask too."""

from __future__ import annotations

import os
from pathlib import Path

MOST = 4
"""Threads that are taken unasked: memory is busy with these."""

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux says how much of the processors' time a container has."""


def cores(quota: Path = QUOTA) -> int:
    """Return how many cores this process may use: those it may run on, and no more than its container has time for."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = quota.read_text().split()
        return max(1, min(found, -(-int(most) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # there is no such file, or it says "max"
        return found


def threads_for(asked: int, cores: int, processes: int = 1) -> int:
    """Return how many threads one of ``processes`` equals on a host takes: those asked for, or its share of the cores.

    ``asked`` is 0 for a share: at least one, at most ``MOST``.
    """
    return asked or max(1, min(MOST, cores // processes))
