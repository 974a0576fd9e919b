"""Promise: Ctrl-C in a step of a pipeline, at whatever instant, leaves no worker with a step that another one does not
know of: the script goes on, and the parameters are those of a run that nobody disturbed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.pipeline.passes import FOR, STEP, Passes
from support.pipeline_job import X, Y, assert_same, layers

Start = Callable[..., LocalCluster]


def train(kv: KV, disturbed: list[int] | None = None) -> dict[str, np.ndarray]:
    pipe = Pipeline(layers(), softmax_cross_entropy)
    pipe.init(kv, seed=3)
    for step in range(6):
        try:
            pipe.step(X[step : step + 32], Y[step : step + 32], microbatches=2)
        except KeyboardInterrupt:
            assert disturbed is not None
            disturbed.append(step)
    kv.barrier()
    return {name: np.array(value) for name, value in kv.params.items()}


@pytest.mark.parametrize("waves", [1, 3])
@pytest.mark.parametrize("rank", [0, 1], ids=["it plans", "it is told"])
def test_an_interrupt_just_after_a_step_was_planned_loses_nothing(
    loopback: Start, local: Callable[..., KV], monkeypatch: pytest.MonkeyPatch, rank: int, waves: int
) -> None:
    number = 0

    def interrupt_third(passes: Passes, told: Any) -> None:
        nonlocal number
        if passes._rank == rank and told[FOR] == STEP:
            number += 1
            if number == 3:
                signal.raise_signal(signal.SIGINT)

    def announce(passes: Passes, told: Any) -> None:
        announced(passes, told)
        interrupt_third(passes, told)

    def following(passes: Passes, clock: int) -> Any:
        told = followed(passes, clock)
        interrupt_third(passes, told)
        return told

    announced, followed = Passes.announce, Passes.next
    monkeypatch.setattr(Passes, "announce", announce)
    monkeypatch.setattr(Passes, "next", following)

    def elsewhere() -> dict[str, np.ndarray]:
        with job.connect(1 - rank) as kv:
            return train(kv)

    job = loopback(mode="pipeline", workers=2, waves=waves, heartbeat_timeout=5.0)
    disturbed: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(elsewhere)
        with job.connect(rank) as kv:
            own = train(kv, disturbed)
        found = other.result(10)
    assert disturbed == [2]
    assert_same({**own, **found}, train(local(**({"mode": "pipeline", "waves": waves} if waves > 1 else {}))))
