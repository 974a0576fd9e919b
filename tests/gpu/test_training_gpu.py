"""A whole job on the GPU: a server, two workers on the CUDA device, the digits."""

from __future__ import annotations

import re

import pytest

from ps import xp
from support.device_run import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.e2e,
    pytest.mark.skipif(xp.cupy() is None, reason="no CUDA device, or no cupy"),
]


@pytest.mark.timeout(200)
def test_two_workers_on_cuda_learn_digits() -> None:
    pytest.importorskip("sklearn", reason="digits come with scikit-learn")
    output = run("-s", "1", "-w", "2", "--device", "cuda", "ps/examples/digits.py", timeout=180)
    found = re.search(r"test accuracy (\d\.\d+)", output)
    assert found, output
    assert float(found[1]) >= 0.95
