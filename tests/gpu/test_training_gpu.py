"""A whole job on the GPU: a server, two workers on the CUDA device, the digits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ps import xp

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.e2e,
    pytest.mark.skipif(xp.cupy() is None, reason="no CUDA device, or no cupy"),
]


@pytest.mark.timeout(200)
def test_two_workers_on_cuda_learn_digits() -> None:
    pytest.importorskip("sklearn", reason="digits come with scikit-learn")
    psctl = [sys.executable, "-c", "from ps.cli import main; main()"]
    job = ["run", "-s", "1", "-w", "2", "--device", "cuda", "ps/examples/digits.py"]
    done = subprocess.run([*psctl, *job], cwd=ROOT, capture_output=True, text=True, timeout=180)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    found = re.search(r"test accuracy (\d\.\d+)", output)
    assert found, output
    assert float(found[1]) >= 0.95
