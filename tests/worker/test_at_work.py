"""A server that works for longer than the heartbeat time-out is alive, for its scheduler and for its workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.errors import ServerLost
from ps.server.shard.gradient_shard import GradientShard
from ps.testing import LocalCluster
from ps.worker.batch import Batch
from support.fakeserver import Setup


def test_a_server_that_makes_room_for_a_large_model_is_not_declared_dead(
    loopback: Callable[..., LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout, init = 1.0, GradientShard._init

    def slow(self: GradientShard, *args: Any) -> Any:
        time.sleep(2.5 * timeout)  # as NumPy does: without holding the interpreter
        return init(self, *args)

    monkeypatch.setattr(GradientShard, "_init", slow)
    with loopback(heartbeat_timeout=timeout, optimizer="sgd:lr=1").connect() as kv:
        params = kv.init({"w": np.zeros(8, np.float32)})
        kv.step({"w": np.ones(8, np.float32)})
        assert params["w"].tolist() == [-1.0] * 8


def test_a_silent_server_that_the_scheduler_hears_is_waited_for_longer_and_not_for_ever(
    setup: Callable[..., Setup],
) -> None:
    job = setup(silence_limit=0.1)
    alone = Batch()
    job.push(alone, 0)
    with pytest.raises(ServerLost, match="Is its host up"):
        job.exchange.wait(alone)
    patient = job.checks

    job = setup(silence_limit=0.1)
    job.exchange._alive = lambda: True
    batch = Batch()
    job.push(batch, 0)
    with pytest.raises(ServerLost, match=r"The scheduler hears it\. Can this host reach it"):
        job.exchange.wait(batch)
    assert job.checks > 5 * patient
