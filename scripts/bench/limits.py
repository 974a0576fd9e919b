"""What every benchmark here shares: the machine it ran on, fair timing, and the limit its figures are held against."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ps import native


def machine() -> dict[str, Any]:
    """Return the day, the processor, how many of its cores this process may use, the load, whose loops do the
    arithmetic, and the versions."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "kernels": native.running(),
    }


def interleave(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return each case's median time in seconds.

    The cases take turns, so that a change of the clock rate or a neighbour's load meets all of them; each runs
    once before, untimed.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    for _ in range(repeats):
        for name, case in cases.items():
            begin = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken) for name, taken in times.items()}


def in_place_update(n_floats: int) -> Callable[[], object]:
    """Return the limit of one core as a case: ``w -= g`` over float32 vectors, the least that an update can do."""
    weights, gradient = np.ones(n_floats, np.float32), np.full(n_floats, 1e-6, np.float32)
    return lambda: np.subtract(weights, gradient, out=weights)


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
