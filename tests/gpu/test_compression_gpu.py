"""Gradients on a real CUDA device are encoded there, to frames that mean what the host's do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.compress import CODECS, Key, Uplink
from ps.config import job_from
from ps.protocol.layout import Layout
from ps.worker.compression import Compression
from ps.worker.gradients import Staging, match

ROOT = Path(__file__).parents[2]
COMPRESSIONS = ("fp16", "bf16", "int8", "onebit", "topk:0.05", "randomk:0.1", "powersgd:2", "topk:0.05,momentum=0.5")
SUMMING = ("onebit", "powersgd")
"""Their frames hold sums, which a device adds up in another order."""

cupy: Any = xp.cupy()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cupy is None, reason="no CUDA device, or no cupy")]


def staged(device: xp.Device) -> tuple[Staging, Any]:
    layout = Layout.of({"w": np.zeros((600, 50), np.float32), "b": np.zeros(7, np.float32)})
    chunks = layout.chunks(2, 16384)
    weights = np.zeros(layout.nbytes, np.uint8)
    buffer = xp.device_buffer(layout.nbytes, device)
    return Staging(layout, chunks, buffer, weights), chunks


@pytest.mark.parametrize("codec", COMPRESSIONS)
def test_a_device_makes_the_hosts_frames_and_remembers_on_the_device(codec: str) -> None:
    job = job_from({"compress": codec, "chunk_size": 16384})
    here, there = Compression(job, 0), Compression(job, 0)
    (host, chunks), (device, _) = staged(xp.CPU), staged(xp.device("cuda"))
    open_frame = Uplink(CODECS.parse(codec)).codec.open
    for clock in range(3):
        random = np.random.default_rng(clock)
        grads = {name: random.standard_normal(shape).astype(np.float32) for name, shape in (("w", (600, 50)), ("b", 7))}
        on_host = match(grads, host)
        on_device = match({"w": cupy.asarray(grads["w"]), "b": grads["b"]}, device)
        assert not on_device.first_bad()
        assert on_device.norm_squared() == pytest.approx(on_host.norm_squared(), rel=1e-12)
        for chunk in chunks:
            assert not xp.is_host(on_device.chunk(chunk))
            expected = here.encode(on_host.chunk(chunk), chunk.index, clock)
            frame = there.encode(on_device.chunk(chunk), chunk.index, clock)
            if not codec.startswith(SUMMING):
                assert frame.tobytes() == expected.tobytes()
                continue
            values = [np.empty(chunk.size, np.float32) for _ in range(2)]
            for one, out in zip((frame, expected), values, strict=True):
                open_frame(one, chunk.size, np.dtype(np.float32), Key(job.seed, clock, chunk.index, 0)).write(out)
            np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-4)
    assert not any(xp.is_host(array) for state in there.state.values() for array in state.values())


def test_what_is_not_finite_is_named_where_it_lies() -> None:
    device, _ = staged(xp.device("cuda"))
    grads = {"w": cupy.ones((600, 50), np.float32), "b": cupy.ones(7, np.float32)}
    grads["w"][31, 7] = np.nan
    assert match(grads, device).first_bad() == "gradient of 'w' is nan at (31, 7)"


@pytest.mark.e2e
@pytest.mark.timeout(200)
@pytest.mark.parametrize("codec", ["topk:0.05"])
def test_two_workers_on_cuda_learn_digits_compressed(codec: str) -> None:
    pytest.importorskip("sklearn", reason="digits come with scikit-learn")
    psctl = [sys.executable, "-c", "from ps.cli import main; main()"]
    job = ["run", "-s", "1", "-w", "2", "--device", "cuda", "--compress", codec, "ps/examples/digits.py"]
    done = subprocess.run([*psctl, *job], cwd=ROOT, capture_output=True, text=True, timeout=180)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    found = re.search(r"test accuracy (\d\.\d+)", output)
    assert found, output
    assert float(found[1]) >= 0.93
