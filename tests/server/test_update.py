"""Promises of updates: aggregators, schedules, clipping in one phase and in two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lone import SIZE, Lone, told

from ps.optim import OptimizerSpec, apply, clip_scale, square_sum
from ps.protocol.messages import Squares
from ps.server.aggregate import REGISTRY

VECTORS = st.lists(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4).map(lambda v: np.array(v, np.float32)),
    min_size=1,
    max_size=5,
)


@given(VECTORS)
def test_mean_is_the_mean_and_leaves_its_parts_alone(parts: list[np.ndarray]) -> None:
    copies = [part.copy() for part in parts]
    out = np.empty(4, np.float32)
    REGISTRY["mean"].combine(parts, [1.0] * len(parts), out)
    np.testing.assert_allclose(out, np.mean(np.float64(parts), axis=0), rtol=1e-5, atol=1e-3)
    assert all((a == b).all() for a, b in zip(parts, copies, strict=True))


@given(VECTORS, st.data())
def test_weighted_mean_weighs_by_examples(parts: list[np.ndarray], data: st.DataObject) -> None:
    examples = data.draw(st.lists(st.integers(1, 100), min_size=len(parts), max_size=len(parts)))
    out = np.empty(4, np.float32)
    REGISTRY["weighted"].combine(parts, examples, out)
    np.testing.assert_allclose(out, np.average(np.float64(parts), axis=0, weights=examples), rtol=1e-5, atol=1e-3)


def test_weights_that_are_all_zero_count_as_equal() -> None:
    out = np.empty(2, np.float32)
    REGISTRY["weighted"].combine([np.float32([1, 2]), np.float32([3, 4])], [0.0, 0.0], out)
    assert out.tolist() == [2.0, 3.0]


def test_sync_with_examples_weighs_the_workers() -> None:
    lone = Lone(2, aggregator="weighted")
    lone.push(1, 0, 1.0, examples=3.0)
    lone.push(2, 0, 5.0, examples=1.0)
    assert lone.value == -2.0


def test_the_schedule_follows_the_clock() -> None:
    lone = Lone(1, optimizer="sgd:lr=1", schedule="step:every=2,gamma=0.5")
    seen = []
    for clock in range(5):
        before = lone.value
        lone.push(1, clock, 1.0)
        seen.append(before - lone.value)
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_elements_are_clipped_after_they_are_combined() -> None:
    lone = Lone(2, clip_value=1.0)
    lone.push(1, 0, 10.0)
    lone.push(2, 0, -10.0)
    assert lone.value == 0.0
    lone.push(1, 1, 10.0)
    lone.push(2, 1, 10.0)
    assert lone.value == -1.0


@pytest.mark.parametrize("optimizer", ["sgd:lr=0.5", "adam:lr=0.1", "momentum:lr=0.1,momentum=0.9"])
def test_clipping_in_two_phases_equals_clipping_in_one_process(optimizer: str) -> None:
    lone = Lone(3, optimizer=optimizer, clip_norm=1.5)
    built = OptimizerSpec.parse(optimizer).build()
    weights = np.zeros(SIZE, np.float32)
    state = built.init(weights)
    for clock in range(4):
        for member in (3, 1):
            assert told(lone.push(member, clock, member * (clock + 1) / 4, pull=False)) == []
        replies = lone.push(2, clock, 2 * (clock + 1) / 4, pull=False)
        assert sorted(told(replies)) == ["1 Squares", "2 Squares", "3 Squares"]
        [value] = {reply.message.value for reply in replies if isinstance(reply.message, Squares)}
        scale = clip_scale(value, 1.5)
        assert told(lone.scale(2, clock, scale)) == ["2 Weights"]
        assert told(lone.scale(1, clock, scale)) == ["1 Weights"]
        assert told(lone.scale(3, clock, scale)) == ["3 Weights"]

        parts = [np.full(SIZE, member * (clock + 1) / 4, np.float32) for member in (1, 2, 3)]
        mean = np.empty(SIZE, np.float32)
        REGISTRY["mean"].combine(parts, [1.0] * 3, mean)
        one = clip_scale(square_sum(mean), 1.5)
        assert one == scale < 1.0 or math.isclose(one, 1.0)
        apply(built, weights, mean, state, lr=built.lr, t=clock + 1, scale=one)
        assert lone.chunk.weights.tolist() == weights.tolist()


def clipped(**job: Any) -> Lone:
    return Lone(2, clip_norm=1.0, **job)


def test_a_scale_sent_twice_or_by_the_second_worker_is_applied_once() -> None:
    lone = clipped()
    lone.push(1, 0, 1.0, pull=False)
    lone.push(2, 0, 1.0, pull=False)
    for member in (1, 1, 2, 2):
        lone.scale(member, 0, 0.5)
    assert (lone.value, lone.chunk.version) == (-0.5, 1)


def test_a_push_repeated_after_the_scale_still_tells_the_norm() -> None:
    lone = clipped()
    lone.push(1, 0, 1.0, pull=False)
    first = lone.push(2, 0, 1.0, pull=False, request=50)
    lone.scale(1, 0, 0.5)
    [again] = lone.push(2, 0, 1.0, pull=False, request=50)
    assert again.message in [reply.message for reply in first]


def test_the_scale_of_one_is_enough_when_the_others_die() -> None:
    lone = clipped()
    lone.push(1, 0, 1.0, pull=False)
    lone.push(2, 0, 1.0, pull=False)
    lone.lose(1)
    assert told(lone.scale(2, 0, 0.5)) == ["2 Weights"]
    assert lone.value == -0.5


@pytest.mark.parametrize("go", ["lose", "retire", "attach"])
def test_nobody_waits_for_a_scale_that_cannot_come(go: str) -> None:
    lone = clipped()
    lone.join(3)
    lone.attach(3)
    lone.start(3, 1)
    lone.push(1, 0, 1.0, pull=False)
    lone.push(2, 0, 1.0, pull=False)
    lone.pull(3, 1)
    for member in (1, 2):
        getattr(lone, go)(member)
        if go == "attach":
            lone.start(member, 2)
    assert (lone.value, lone.chunk.version, lone.chunk.combined) == (0.0, 1, None)
    assert not lone.chunk.waiters


def test_while_the_scale_is_waited_for_it_says_for_whom() -> None:
    lone = clipped()
    lone.push(1, 0, 1.0, pull=False)
    lone.push(2, 0, 1.0, pull=False)
    lone.pull(1, 1)
    lone.lose(2)
    assert lone.shard.report(5.0)["waiting"] == [{"clock": 1, "for": [0], "seconds": 5.0}]
