"""Promises of the cluster inside one process: it trains as processes do, raises what a worker raises, and ends."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import ps
from ps.errors import GradientError
from ps.testing import LocalCluster


def script(kv: ps.KV) -> Any:
    params = kv.init({"w": np.zeros(3, np.float32)})
    kv.step({"w": np.full(3, kv.rank + 1.0, np.float32)})
    kv.barrier()
    return params["w"].copy()


def test_workers_are_functions_and_their_results_come_in_rank_order() -> None:
    with LocalCluster(servers=2, workers=2, optimizer="sgd:lr=0.5") as cluster:
        for result in cluster.run(script, script):
            np.testing.assert_array_equal(result, np.full(3, -0.75, np.float32))
    assert not cluster.failures


def test_what_a_worker_raises_is_raised() -> None:
    def bad(kv: ps.KV) -> None:
        kv.init({"w": np.zeros(3, np.float32)})
        kv.step({"w": np.full(3, np.nan, np.float32)})

    with LocalCluster() as cluster, pytest.raises(GradientError, match="w"):
        cluster.run(bad)


def test_what_hangs_is_named_after_the_time_out() -> None:
    cluster, release = LocalCluster(), threading.Event()
    cluster.timeout = 0.5

    def lone(kv: ps.KV) -> None:
        release.wait(30)

    try:
        with pytest.raises(TimeoutError, match=r"a worker hangs, after 0\.5 s"):
            cluster.run(lone)
    finally:
        release.set()
        cluster.timeout = 40.0
        cluster.close()
