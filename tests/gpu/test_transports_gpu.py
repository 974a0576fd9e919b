"""Jobs whose gradients lie on a CUDA device end with the bits of the same jobs on the host, over every transport."""

from __future__ import annotations

import functools
import re

import pytest

from ps import xp
from support.device_run import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(xp.cupy() is None, reason="no CUDA device, or no cupy"),
]


def two(device: str, *words: str) -> str:
    return run("-s", "2", "-w", "2", "--device", device, *words)


@functools.cache
def digest(device: str, way: str, *flags: str) -> str:
    found = set(re.findall(r"digest ([0-9a-f]{64})", two(device, *flags, "tests/gpu/fixed_job.py", way)))
    assert len(found) == 1, "the workers ended with different weights"
    return found.pop()


@pytest.mark.parametrize("transport", ["shm", "ipc", "tcp"])
def test_a_step_from_the_device_has_the_hosts_bits(transport: str) -> None:
    assert digest("cuda", "step", "--transport", transport) == digest("cpu", "step", "--transport", "tcp")


@pytest.mark.parametrize("way", ["own", "ready", "verbs"])
def test_every_way_to_give_gradients_has_the_hosts_bits(way: str) -> None:
    assert digest("cuda", way) == digest("cpu", "step", "--transport", "tcp")


def test_overlap_waits_for_what_is_read() -> None:
    assert digest("cuda", "ready", "--overlap") == digest("cpu", "step", "--transport", "tcp")


@pytest.mark.parametrize("codec", ["int8", "topk:0.05"])
def test_what_is_encoded_on_the_device_has_the_hosts_bits(codec: str) -> None:
    assert digest("cuda", "step", "--compress", codec) == digest("cpu", "step", "--compress", codec)


@pytest.mark.parametrize("mode", ["async", "ssp", "federated"])
def test_every_mode_learns_digits_on_the_device(mode: str) -> None:
    pytest.importorskip("sklearn", reason="digits come with scikit-learn")
    flags = ["--mode", mode, *(["--rounds", "15"] if mode == "federated" else [])]
    output = two("cuda", *flags, "ps/examples/digits.py")
    found = re.search(r"test accuracy (\d\.\d+)", output)
    assert found, output
    assert float(found[1]) >= (0.85 if mode == "federated" else 0.93)
