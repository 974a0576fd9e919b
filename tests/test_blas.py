"""Promises about the threads of matrix products: a process takes its share of the cores, unless somebody decided."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ps import blas
from ps.cores import cores


@pytest.mark.parametrize(("cores", "processes", "each"), [(8, 1, 8), (8, 3, 2), (2, 3, 1), (1, 1, 1)])
def test_cores_are_shared_out_evenly_and_everybody_has_one(cores: int, processes: int, each: int) -> None:
    assert blas.share(cores, processes) == each


TAKES = """
import os, numpy
from threadpoolctl import threadpool_info
from ps import blas
def most(): return max(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
before = most()
print(before, blas.take(1, os.environ), most())
"""


@pytest.mark.parametrize("given", ["", "2"])
def test_libraries_that_are_loaded_take_no_more_than_the_share_unless_a_variable_says_so(given: str) -> None:
    env = {name: value for name, value in os.environ.items() if name not in blas.VARIABLES}
    env |= {"OMP_NUM_THREADS": given} if given else {}
    done = subprocess.run([sys.executable, "-c", TAKES], env=env, capture_output=True, text=True, timeout=60)
    before, changed, after = done.stdout.split()
    if given:
        assert (changed, after) == ("False", before)
    else:
        assert (changed, after) == (str(int(before) > 1), "1"), done.stderr
        assert ("this process's share" in done.stderr) == (int(before) > 1)


@pytest.mark.parametrize(("text", "most"), [("max 100000", 999), ("150000 100000", 2), ("50000 100000", 1), ("", 999)])
def test_a_container_has_no_more_cores_than_time_for_them(tmp_path: Path, text: str, most: int) -> None:
    groups, own, none = tmp_path / "groups", tmp_path / "own", tmp_path / "none"
    groups.mkdir()
    (groups / "cpu.max").write_text(text)
    own.write_text("0::/\n")
    assert cores(groups, own) == min(cores(none, none), most)
