"""Promises of pipelines that run apart (``--mode pipeline-ssp``): none is further ahead of the slowest than the bound
says, one that is slow holds up no other within it, and all go on when one is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from ps.errors import PeerLost
from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.testing import LocalCluster
from ps.worker import KV
from support.pipeline_job import X, Y, assert_same, layers, script, stopped, whole

Start = Callable[..., LocalCluster]


class Failed(Exception):
    """Said by a script that ends in the midst."""


@pytest.mark.parametrize(("staleness", "waves"), [(0, 1), (2, 1), (1, 2)])
def test_a_pipeline_is_as_far_ahead_as_the_bound_says_and_no_further(
    loopback: Start, staleness: int, waves: int
) -> None:
    steps, taken, moved = 8, [0, 0], threading.Condition()

    def train(kv: KV) -> list[int]:
        pipeline = kv.rank // 2
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        lead: list[int] = []
        for step in range(steps):
            if kv.rank == 2:  # the slow one goes on only when the other is as far ahead as it may be
                with moved:
                    furthest = min(steps, step + staleness)
                    assert moved.wait_for(lambda most=furthest: taken[0] >= most, 30), taken
            pipe.step(X[:8], Y[:8], microbatches=2)
            if kv.rank % 2 == 0:
                with moved:
                    taken[pipeline] = step + 1
                    lead.append(taken[pipeline] - taken[1 - pipeline])
                    moved.notify_all()
        kv.barrier()
        assert kv.clock == steps
        return lead

    job = loopback(mode="pipeline-ssp", workers=4, stages=2, staleness=staleness, waves=waves)
    found = job.run(*[train] * 4)
    # of the slow one a step may be done whose end its script has not seen; steps return with their waves under way
    assert staleness <= max(found[0]) <= staleness + 1 + (waves if waves > 1 else 0)


@pytest.mark.parametrize("waves", [1, 3])
def test_one_pipeline_alone_has_the_bits_of_one_that_waits_for_all(loopback: Start, waves: int) -> None:
    job = {"workers": 3, "servers": 2, "optimizer": "adam:lr=0.05", "waves": waves}
    found, expected = (
        loopback(mode=mode, **job).run(*[lambda kv: script(kv, dropout=waves == 1)] * 3)
        for mode in ("pipeline-ssp", "pipeline")
    )
    assert found[0][1] == expected[0][1]
    assert_same(whole(found), whole(expected))


@pytest.mark.parametrize("waves", [1, 2])
def test_in_a_barrier_all_go_on_from_the_clock_of_whoever_was_furthest(loopback: Start, waves: int) -> None:
    def train(kv: KV) -> tuple[int, int, list[float]]:
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        for _ in range(5 if kv.rank < 2 else 3):
            pipe.step(X[:8], Y[:8], microbatches=2)
        kv.barrier()
        met = kv.clock
        losses = [pipe.step(X[8:16], Y[8:16], microbatches=2) for _ in range(4)]
        kv.barrier()
        return met, kv.clock, losses

    job = loopback(mode="pipeline-ssp", workers=4, stages=2, staleness=4, waves=waves)
    found = job.run(*[train] * 4)
    assert {(met, end) for met, end, _ in found} == {(5, 9)}
    assert all(np.isfinite(losses).all() for _, _, losses in found)


def test_when_a_pipeline_is_lost_the_others_go_on(loopback: Start) -> None:
    def train(kv: KV) -> int:
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        try:
            for step in range(12):
                if kv.rank == 3 and step == 3:
                    raise Failed("this script ends here")
                pipe.step(X[:8], Y[:8], microbatches=2)
        except (Failed, PeerLost):
            return -1
        return kv.clock

    job = loopback(mode="pipeline-ssp", workers=4, stages=2, staleness=1)
    assert job.run(*[train] * 4) == [12, 12, -1, -1]


def test_training_that_is_stopped_ends_everywhere_at_one_clock(loopback: Start) -> None:
    found = loopback(mode="pipeline-ssp", workers=4, stages=2, staleness=3).run(*[lambda kv: stopped(kv, 10)] * 4)
    assert len(set(found)) == 1
    assert 10 <= found[0] < 100
