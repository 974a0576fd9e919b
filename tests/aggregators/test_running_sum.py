"""Promises of the running sum: what it adds up to, in which memory, and what it refuses."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.aggregators.running_sum import RunningSum
from ps.compress import CODECS, DOWN, Decoded, Key
from ps.errors import UsageError
from ps.threads import ThreadTeam

BIG = 700_001
"""Elements of more than one block, with an end that fits none."""

FLOAT32 = np.dtype(np.float32)


def vectors(n: int, size: int, dtype: str = "float32") -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(size).astype(dtype) for _ in range(n)]


def packed(values: np.ndarray, codec: str) -> Decoded:
    """Return the vector as a server has it from a compressed frame."""
    found, key = CODECS.parse(codec).build(), Key(0, 0, 0, DOWN)
    frame = found.encode(values, key, found.init(values))
    return found.open(frame, values.size, values.dtype, key)


def dense(decoded: Decoded) -> np.ndarray:
    out = np.empty(decoded.size, decoded.dtype)
    decoded.write(out)
    return out


@given(st.lists(st.sampled_from([1.0, 0.0, -2.5, 600.0, 1e-3]), min_size=1, max_size=6), st.booleans())
def test_it_is_the_weighted_sum_in_the_given_order(coefficients: list[float], double: bool) -> None:
    parts = vectors(len(coefficients), 33, "float64" if double else "float32")
    copies = [part.copy() for part in parts]
    running = RunningSum(33, parts[0].dtype)
    expected = np.zeros_like(parts[0])
    for part, coefficient in zip(parts, coefficients, strict=True):
        running.add(part, coefficient)
        expected = expected + part * coefficient
    found = running.take()
    assert found.dtype == parts[0].dtype
    assert (found == expected).all()
    assert all((a == b).all() for a, b in zip(parts, copies, strict=True))


@pytest.mark.parametrize("codec", ["none", "int8", "topk:0.01"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("coefficient", [1.0, 3.0])
def test_a_compressed_vector_counts_as_what_it_stands_for(codec: str, first: bool, coefficient: float) -> None:
    begin, values = vectors(2, BIG)
    decoded = packed(values, codec)
    running = RunningSum(BIG, FLOAT32)
    expected = np.zeros_like(begin)
    if not first:
        running.add(begin)
        expected += begin
    running.add(decoded, coefficient)
    expected += dense(decoded) * np.float32(coefficient)
    assert (running.take() == expected).all()


def test_threads_do_not_change_a_bit() -> None:
    parts = vectors(3, BIG)
    sums = [RunningSum(BIG, FLOAT32), RunningSum(BIG, FLOAT32, ThreadTeam(3, least_bytes=1))]
    for running in sums:
        for part, coefficient in zip(parts, (0.3, 1.0, 7.0), strict=True):
            running.add(part, coefficient)
    assert sums[0].take().tobytes() == sums[1].take().tobytes()


def test_a_vector_may_change_after_it_was_added() -> None:
    [part] = vectors(1, 10)
    running, before = RunningSum(10, FLOAT32), part.copy()
    running.add(part)
    part.fill(np.nan)
    assert (running.take() == before).all()


def test_what_was_taken_is_the_takers_and_the_pile_begins_anew() -> None:
    one, two = vectors(2, 10)
    running = RunningSum(10, FLOAT32)
    running.add(one)
    first = running.take()
    running.add(two)
    assert (first == one).all()
    assert (running.take() == two).all()
    assert running.take().tolist() == [0.0] * 10


def test_however_many_are_added_they_take_the_memory_of_one() -> None:
    [part] = vectors(1, 1 << 20)
    compressed = packed(part, "topk:0.01")
    RunningSum(part.size, FLOAT32).add(part, 2.0)
    tracemalloc.start()
    try:
        running = RunningSum(part.size, FLOAT32)
        lazy = tracemalloc.get_traced_memory()[1]
        for _ in range(20):
            running.add(part, 2.0)
            running.add(compressed, 2.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lazy < 10_000
    # One model, one block of the second factor, and what a hundredth of the elements take.
    assert part.nbytes <= peak < part.nbytes * 1.5


@pytest.mark.parametrize("wrong", [np.zeros(9, np.float32), np.zeros(10), packed(np.ones(9, np.float32), "int8")])
def test_a_vector_that_does_not_fit_is_refused(wrong: np.ndarray | Decoded) -> None:
    running = RunningSum(10, FLOAT32)
    with pytest.raises(UsageError, match=r"expected float32\[10\] to add, not float"):
        running.add(wrong)
    assert not running.take().any()


@pytest.mark.parametrize("coefficient", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_a_coefficient_that_is_no_number_of_the_sum_is_refused(coefficient: float) -> None:
    running = RunningSum(10, FLOAT32)
    with pytest.raises(UsageError, match="a coefficient must be a finite float32 number, not"):
        running.add(np.ones(10, np.float32), coefficient)
    assert not running.take().any()
