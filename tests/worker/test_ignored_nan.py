"""NaN that nobody looks for (``on_nan`` = ignore): it goes where it was, with clipping as without, and ends nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from loopback import Loopback

from ps.worker import KV

Local = Callable[..., KV]
Start = Callable[..., Loopback]


def two_steps(kv: KV) -> np.ndarray:
    """Return the weights after a step with a bad element and an ordinary one, which is clipped to half."""
    params = kv.init({"w": np.zeros(3000, np.float32)})
    bad = np.zeros(3000, np.float32)
    bad[1500] = np.nan
    kv.step({"w": bad})
    good = np.zeros(3000, np.float32)
    good[0] = 2
    kv.step({"w": good})
    return np.array(params["w"])


JOB = {"optimizer": "sgd:lr=1", "on_nan": "ignore", "clip_norm": 1.0}


def check(weights: np.ndarray) -> None:
    assert np.flatnonzero(np.isnan(weights)).tolist() == [1500]
    assert weights[0] == -1


def test_without_a_cluster_a_norm_that_is_nan_clips_nothing(local: Local) -> None:
    check(two_steps(local(**JOB)))


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_in_every_mode_it_is_as_without_a_cluster(loopback: Start, mode: str) -> None:
    job: dict[str, Any] = {**JOB, "mode": mode, "servers": 2, "chunk_size": 1024}
    check(loopback(**job).work(two_steps)[0])
