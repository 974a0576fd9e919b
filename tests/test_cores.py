"""Promises of ps.cores: a share of the cores that there are, asked for without loading anything large."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ps.cores import MOST, cores, threads_for


@pytest.mark.parametrize(
    ("asked", "cores", "processes", "threads"),
    [(0, 1, 1, 1), (0, 2, 1, 2), (0, 2, 4, 1), (0, 64, 2, MOST), (0, 7, 2, 3), (8, 2, 4, 8), (1, 64, 1, 1)],
)
def test_a_process_takes_the_threads_asked_for_or_its_share_of_the_cores(
    asked: int, cores: int, processes: int, threads: int
) -> None:
    assert threads_for(asked, cores, processes) == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_only_cores_that_this_process_may_use_are_counted() -> None:
    allowed = os.sched_getaffinity(0)
    assert cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_launcher_loads_no_numpy() -> None:
    asks = "import sys, ps.launch.cluster; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, timeout=60).stdout == "False\n"
