"""Promises for hosts without Linux's facilities: jobs and simulations end well; members talk over Unix sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent / "macos"

SCRIPT = """
import sys
import numpy as np
import ps
assert sys.platform == "darwin"
with ps.connect(optimizer="sgd:lr=1") as kv:
    params = kv.init({"w": np.zeros(300_000, np.float32)})
    for x in kv.batches(np.arange(16, dtype=np.float32), batch_size=2, epochs=1):
        kv.step({"w": np.ones(300_000, np.float32)})
    kv.barrier()
    if kv.rank == 0:
        print("w is", set(params["w"]))
"""


def psctl(*argv: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ps.cli", *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_job_falls_back_to_unix_sockets_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    told = psctl("run", "-s", "1", "-w", "2", "train.py", folder=tmp_path)
    assert "no shared memory (it offers none); using ipc://" in told
    assert "w is {np.float32(-4.0)}" in told or "w is {-4.0}" in told


def test_a_simulation_needs_nothing_of_linux(tmp_path: Path) -> None:
    small = ["--clients", "6", "--rounds", "2", "--examples", "300", "--processes", "1"]
    assert "12 updates" in psctl("simulate", *small, folder=tmp_path)
