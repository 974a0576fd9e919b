"""Cores: how many this process may use, and how many threads it takes for them. Loads nothing: launchers ask too."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

MOST = 4
"""Threads that are taken unasked: memory is busy with these."""

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux says how much of the processors' time a control group has: each, and all together in one above it."""
OWN = Path("/proc/self/cgroup")
"""Which groups this process is in."""
TASK_CORES = "SLURM_CPUS_PER_TASK"


def cores(groups: Path = GROUPS, own: Path = OWN) -> int:
    """Return how many cores this process may use: those it may run on, and no more than its container has time for."""
    return max(1, min([allowed(), *(math.ceil(share) for share in quotas(groups, own))]))


def allowed() -> int:
    """Return how many cores this process may run on, whatever time it gets there."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quotas(groups: Path = GROUPS, own: Path = OWN) -> Iterator[float]:
    """Yield the cores' worth of time that each control group of this process has, where one is limited."""
    for folder, is_first in _folders(groups, own):
        try:
            if is_first:
                most, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            else:
                most, period = map(float, (folder / "cpu.max").read_text().split())
            if most > 0 and period > 0:
                yield most / period
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue


def _folders(groups: Path, own: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of the groups of this process and of those above, and whether they are of the first version."""
    yield groups, False  # of a container that sees its own alone
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, kinds, place = (*line.split(":", 2), "", "")[:3]
        if kinds and "cpu" not in kinds.split(","):
            continue
        parts = [part for part in place.split("/") if part not in ("", "..")]
        root = groups / kinds if kinds else groups
        for depth in range(len(parts), -1, -1):
            yield root.joinpath(*parts[:depth]), bool(kinds)


def described(environ: Mapping[str, str], groups: Path = GROUPS, own: Path = OWN) -> str:
    """Return what a process is to be told of its cores, where these are not all, or not those that Slurm gave it."""
    found, there = cores(groups, own), os.cpu_count() or 1
    why = "by its container's quota" if found < allowed() else "by its affinity"
    asked = environ.get(TASK_CORES, "")
    if asked.isascii() and asked.isdecimal() and 0 < found < int(asked[:9]):
        told = f"Slurm counts {asked[:9]} cores for this task, and it may use {found} ({why})"
        return f"{told}: does srun repeat --cpus-per-task?"
    return f"this process may use {found} of {there} cores, {why}" if found < there else ""


def threads_for(asked: int, cores: int, processes: int = 1) -> int:
    """Return how many threads one of ``processes`` equals on a host takes: those asked for, or its share of the cores.

    ``asked`` is 0 for a share: at least one, at most ``MOST``.
    """
    return asked or max(1, min(MOST, cores // processes))
