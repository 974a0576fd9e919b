"""Promises of ps.cores: a share of the cores that there are, asked for without loading anything large."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ps.cores import MOST, cores, described, quotas, threads_for


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


def groups(folder: Path, own: str, **files: str) -> tuple[Path, Path]:
    """Return a tree of control groups and a process's place in it; in names of files ``__`` is a slash, ``_`` a dot."""
    for name, text in files.items():
        *parts, last = name.split("__")
        place = folder.joinpath("tree", *parts)
        place.mkdir(parents=True, exist_ok=True)
        (place / (last.replace("_", ".", 1) if last in ("cpu_max",) else last.replace("cpu_", "cpu.", 1))).write_text(
            text
        )
    (folder / "own").write_text(own)
    return folder / "tree", folder / "own"


MANY = {"cpu_max": "max 100000"}


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        ("0::/\n", {"cpu_max": "50000 100000"}, [0.5]),
        ("0::/a/b\n", {"a__cpu_max": "150000 100000", "a__b__cpu_max": "max 100000"}, [1.5]),
        ("0::/a/b\n", {"a__cpu_max": "400000 100000", "a__b__cpu_max": "100000 100000"}, [1.0, 4.0]),
        ("3:cpu:/a\n", {"cpu__a__cpu_cfs_quota_us": "200000", "cpu__a__cpu_cfs_period_us": "100000"}, [2.0]),
        ("3:cpu:/a\n", {"cpu__a__cpu_cfs_quota_us": "-1", "cpu__a__cpu_cfs_period_us": "100000"}, []),
        ("4:memory:/a\n0::/\n", {"a__cpu_max": "1 2"}, []),
        ("nothing\n:\n::\n", MANY, []),
        ("0::/../../a\n", {"a__cpu_max": "100000 0"}, []),
        ("0::/a\n", {"a__cpu_max": "many of them"}, []),
    ],
)
def test_the_time_of_a_control_group_and_of_those_above_counts(
    own: str, files: dict[str, str], found: list[float], tmp_path: Path
) -> None:
    about = groups(tmp_path, own, **files)
    assert sorted(set(quotas(*about))) == found
    if found:
        assert cores(*about) == max(1, min(len(os.sched_getaffinity(0)), -int(-min(found) // 1)))


def test_there_is_always_one_core(tmp_path: Path) -> None:
    assert cores(*groups(tmp_path, "0::/\n", cpu_max="1000 100000")) == 1
    assert cores(tmp_path / "none", tmp_path / "none") == len(os.sched_getaffinity(0))


def test_fewer_cores_than_there_are_or_than_slurm_has_given_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = groups(tmp_path, "0::/\n", cpu_max="200000 100000")
    monkeypatch.setattr("ps.cores.allowed", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert described({}, *about) == "this process may use 2 of 64 cores, by its container's quota"
    assert described({"SLURM_CPUS_PER_TASK": "2"}, *about).startswith("this process may use 2 of 64")
    told = described({"SLURM_CPUS_PER_TASK": "4"}, *about)
    assert told.startswith("Slurm counts 4 cores for this task, and it may use 2") and "--cpus-per-task" in told
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert described({"SLURM_CPUS_PER_TASK": "x"}, *groups(tmp_path, "0::/\n", cpu_max="max 100000")) == ""
