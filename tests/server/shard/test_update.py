"""Promises of updates: aggregators, schedules, clipping in one phase and in two."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ps.aggregators import AGGREGATORS
from ps.aggregators.gradients import combination
from ps.config.job import JobConfig
from ps.optim import OPTIMIZERS, apply, clip_scale, square_sum
from ps.protocol.layout import Layout
from ps.protocol.messages import NormPart
from ps.protocol.messages.rate import UNSAID
from ps.server.shard.chunk import ChunkState, Combined, Contribution
from ps.server.shard.update import Updater
from support.lone import SIZE, Lone, told

MEANS = ["mean", "weighted"]
ROBUST = ["median", "trimmed:0.3", "krum:f=0", "multikrum:f=1", "geomedian"]

VECTORS = st.lists(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4).map(lambda v: np.array(v, np.float32)),
    min_size=1,
    max_size=5,
)


def combined(name: str, parts: list[np.ndarray], examples: list[float]) -> np.ndarray:
    out = np.empty_like(parts[0])
    read, factor = combination(AGGREGATORS.parse(name).build(), parts, examples)
    found = read(0, out.size, out)
    assert found is out or any(np.shares_memory(found, part) for part in parts)
    return found * found.dtype.type(factor)


@given(VECTORS)
def test_mean_is_the_mean_and_leaves_its_parts_alone(parts: list[np.ndarray]) -> None:
    copies = [part.copy() for part in parts]
    out = combined("mean", parts, [1.0] * len(parts))
    np.testing.assert_allclose(out, np.mean(np.float64(parts), axis=0), rtol=1e-5, atol=1e-3)
    assert all((a == b).all() for a, b in zip(parts, copies, strict=True))


@given(VECTORS, st.data())
def test_weighted_mean_weighs_by_examples(parts: list[np.ndarray], data: st.DataObject) -> None:
    copies = [part.copy() for part in parts]
    examples = data.draw(st.lists(st.sampled_from([0, 1, 7, 32, 100]), min_size=len(parts), max_size=len(parts)))
    assume(any(examples))
    out = combined("weighted", parts, examples)
    np.testing.assert_allclose(out, np.average(np.float64(parts), axis=0, weights=examples), rtol=1e-5, atol=1e-3)
    assert all((a == b).all() for a, b in zip(parts, copies, strict=True))


@given(VECTORS, st.floats(0, 1e9))
def test_equal_weights_give_the_mean_to_the_bit(parts: list[np.ndarray], weight: float) -> None:
    examples = [weight] * len(parts)
    assert combined("weighted", parts, examples).tobytes() == combined("mean", parts, examples).tobytes()


@pytest.mark.parametrize("name", MEANS)
def test_parts_are_added_in_the_given_order(name: str) -> None:
    parts = [np.float32([value]) for value in (1e8, 1.0, -1e8, 1.0)]
    assert combined(name, parts, [1.0] * 4) == 0.25
    assert combined(name, parts[::2] + parts[1::2], [1.0] * 4) == 0.5
    if name == "weighted":
        assert combined(name, [np.float32([2e8]), *parts[1:]], [0.5, 1.0, 1.0, 1.0]) == pytest.approx(1 / 3.5)


def test_weights_however_far_apart_do_not_overflow() -> None:
    parts = [np.float32([1]), np.float32([2]), np.float32([3])]
    assert combined("weighted", parts, [1e-300, 1e300, 0.0]) == 2.0


def test_weights_that_are_all_zero_count_as_equal() -> None:
    out = combined("weighted", [np.float32([1, 2]), np.float32([3, 4])], [0.0, 0.0])
    assert out.tolist() == [2.0, 3.0]


BIG = 700_001
"""Elements of a chunk that several threads share, with an end that fits no block."""


@functools.cache
def drawn(size: int, dtype: str) -> np.ndarray:
    """Return weights and the gradients of up to eight workers, a row each, which may not be written to."""
    rows = np.random.default_rng(0).standard_normal((9, size)).astype(dtype)
    rows.flags.writeable = False
    return rows


def updates(n: int, threads: int, size: int = BIG, dtype: str = "float32", **job: Any) -> bytes:
    """Return weights and state after two steps of ``n`` workers, by this number of threads."""
    config = JobConfig(workers=n, **job)
    updater = Updater(config, threads)
    layout = Layout.of({"w": np.empty(size, dtype)})
    [chunk] = layout.chunks(1, 32 << 20)
    weights, gradients = drawn(size, dtype)[0].copy(), drawn(size, dtype)[1 : 1 + n]
    state = ChunkState(chunk, weights, updater.optimizer(chunk).init(weights))
    for clock in range(2):
        given = [Contribution(r, r, clock, 0, 1.0 + (r == 1), 0.5, g) for r, g in enumerate(gradients)]
        if config.clip_norm is None:
            updater.apply(state, given, 0)
        else:
            gradient, squares = updater.combine(state, given)
            assert gradient is not None
            combined = Combined(clock, gradient, squares, set(), UNSAID)
            updater.apply_combined(state, combined, clip_scale(squares, config.clip_norm))
    return b"".join(array.tobytes() for array in (state.weights, *state.slots.values()))


@pytest.mark.parametrize("clip", [{}, {"clip_value": 0.3}, {"clip_norm": 0.7}], ids=str)
@pytest.mark.parametrize(("aggregator", "n"), [*itertools.product(MEANS, [1, 2, 4, 8]), *((a, 6) for a in ROBUST)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam:weight_decay=0.1"])
def test_threads_do_not_change_a_bit(n: int, optimizer: str, aggregator: str, clip: dict[str, float]) -> None:
    job = {"optimizer": optimizer, "aggregator": aggregator, **clip}
    one, three = (updates(n, threads, **job) for threads in (1, 3))
    assert one == three


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.7}], ids=str)
@pytest.mark.parametrize("aggregator", MEANS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_update_is_the_equation_worked_out_in_double_precision(
    n: int, aggregator: str, clip: dict[str, float]
) -> None:
    found = np.frombuffer(updates(n, 2, dtype="float64", aggregator=aggregator, optimizer="sgd:lr=0.1", **clip))
    weights, gradients = drawn(BIG, "float64")[0], drawn(BIG, "float64")[1 : 1 + n]
    shares = [1.0 + (r == 1 and aggregator == "weighted") for r in range(n)]
    mean = np.average(gradients, axis=0, weights=shares)
    scale = 0.5 if n == 1 else 1.0
    if clip:
        scale = clip_scale(float(mean @ mean), clip["clip_norm"])
    np.testing.assert_allclose(found, weights - 2 * 0.1 * scale * mean, rtol=1e-12, atol=1e-12)


def test_a_failure_on_any_thread_reaches_the_shard_and_the_next_update_works() -> None:
    updater = Updater(JobConfig(optimizer="sgd:lr=1"), 2)
    [chunk] = Layout.of({"w": np.empty(BIG, np.float64)}).chunks(1, 32 << 20)
    state = ChunkState(chunk, np.zeros(BIG), {})
    short = [Contribution(r, r, 0, 0, 1.0, 1.0, np.ones(size)) for r, size in enumerate((BIG, BIG - 9))]
    with pytest.raises(ValueError, match=r"broadcast|beside one of"):
        updater.apply(state, short, 0)
    state.weights[:] = 0
    updater.apply(state, [short[0], short[0]], 0)
    assert np.all(state.weights == -1)


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
    built = OPTIMIZERS.parse(optimizer).build()
    weights = np.zeros(SIZE, np.float32)
    state = built.init(weights)
    for clock in range(4):
        for member in (3, 1):
            assert told(lone.push(member, clock, member * (clock + 1) / 4, pull=False)) == []
        replies = lone.push(2, clock, 2 * (clock + 1) / 4, pull=False)
        assert sorted(told(replies)) == ["1 NormPart", "2 NormPart", "3 NormPart"]
        [value] = {reply.message.value for reply in replies if isinstance(reply.message, NormPart)}
        scale = clip_scale(value, 1.5)
        assert told(lone.scale(2, clock, scale)) == ["2 Weights"]
        assert told(lone.scale(1, clock, scale)) == ["1 Weights"]
        assert told(lone.scale(3, clock, scale)) == ["3 Weights"]

        parts = [np.full(SIZE, member * (clock + 1) / 4, np.float32) for member in (1, 2, 3)]
        mean = combined("mean", parts, [1.0] * 3)
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
    assert lone.shard.report(5.0)["waiting"] == [{"clock": 1, "for": [0], "seconds": 5.0, "chunk": 0, "chunks": 1}]
