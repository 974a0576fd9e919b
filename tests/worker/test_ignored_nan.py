"""NaN that nobody looks for (``on_nan`` = ignore), or to which weights diverge: it goes where it was, with clipping
and compression as without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.errors import GradientError
from ps.testing import LocalCluster
from ps.worker import KV

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]


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
    check(loopback(**job).run(two_steps)[0])


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("codec", ["int8", "topk:0.01"])
def test_in_a_job_that_compresses_it_is_looked_for_since_no_codec_can_say_it(
    loopback: Start, codec: str, ready: bool
) -> None:
    def script(kv: KV) -> None:
        kv.init({"w": np.zeros(3000, np.float32)})
        bad = np.full(3000, np.nan, np.float32)
        with pytest.raises(GradientError, match="'w' is nan"):
            if ready:
                kv.ready("w", bad)
            kv.step({"w": bad})

    loopback(on_nan="ignore", compress=codec, servers=2, chunk_size=1024).run(script)


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
@pytest.mark.parametrize("codec", ["none", "int8", "topk:0.01", "powersgd:2"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflows, of the servers' optimizers in their threads
def test_weights_that_diverge_come_as_they_are_and_the_next_gradient_ends_it(
    loopback: Start, mode: str, codec: str
) -> None:
    def script(kv: KV) -> None:
        params = kv.init({"w": np.ones(3000, np.float32)})
        for _ in range(6):
            kv.step({"w": np.ones(3000, np.float32)})
        assert not np.isfinite(params["w"]).any()
        with pytest.raises(GradientError, match="'w' is nan"):
            kv.step({"w": np.array(params["w"])})

    job: dict[str, Any] = {"optimizer": "sgd:lr=1e6,weight_decay=1e12", "mode": mode, "compress": codec}
    loopback(servers=2, chunk_size=2048, **job).run(script)
