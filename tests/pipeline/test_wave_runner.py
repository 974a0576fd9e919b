"""Promises of waves that overlap: each comes to its end over every window, its backward passes have the weights of its
forward passes, and no wave's are older than was said."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ps import xp
from ps.config import job_from
from ps.pipeline import Pipeline
from ps.worker import KV
from ps.worker.local import LocalStore
from ps.worker.step_log import StepLog
from support.pipeline_step import DRAWN, model
from support.pipeline_waves import train

RANDOM = np.random.default_rng(0)
BATCHES = [(RANDOM.standard_normal((9, 6), np.float32), RANDOM.integers(0, 4, 9)) for _ in range(6)]


def alone(pipe: Pipeline, microbatches: int, waves: int, frozen: int) -> dict[str, np.ndarray]:
    """Return what one process comes to, with the same delay."""
    kv = KV(
        LocalStore(job_from({"mode": "pipeline", "waves": waves, "optimizer": "sgd:lr=0.1"})), xp.CPU, StepLog(None)
    )
    with kv:
        pipe.init(kv, seed=3, kinds={f"{place}.*": "frozen" for place in range(frozen)})
        for x, y in BATCHES:
            pipe.step(x, y, microbatches=microbatches)
        return {name: np.array(value) for name, value in kv.params.items()}


@settings(max_examples=30, deadline=None)
@given(**DRAWN, waves=st.integers(2, 4))
def test_waves_end_over_every_window_with_the_bits_of_one_process(
    stages: int, schedule: str, microbatches: int, waves: int, window: int, frozen: int, tied: bool, seed: int
) -> None:
    frozen = 0 if tied else frozen
    found, staleness = train(
        model(stages, schedule, tied=tied), BATCHES, microbatches, waves, window, seed, frozen=frozen
    )
    assert max(staleness) == waves - 1
    expected = alone(model(1, "1f1b", tied=tied), microbatches, waves, frozen)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
