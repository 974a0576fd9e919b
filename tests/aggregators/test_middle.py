"""Median and trimmed mean of each element, against a sort of everything."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.aggregators.median import Median
from ps.aggregators.middle import FEW, middle_mean
from ps.aggregators.trimmed import Trimmed
from support.rounds import combined, honest


@given(st.integers(1, 20), st.integers(0, 40), st.integers(0, 10**6), st.sampled_from(["float32", "float64"]))
@settings(max_examples=80)
def test_they_are_the_means_of_the_middle_of_a_sort(n: int, size: int, seed: int, dtype: str) -> None:
    vectors = honest(n, size, seed, dtype)
    copies = [v.copy() for v in vectors]
    ordered = np.sort(np.float64(vectors), axis=0)
    for cut in range((n + 1) // 2):
        out = np.empty(size, dtype)
        middle_mean(vectors, cut, out)
        np.testing.assert_allclose(out, ordered[cut : n - cut].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(combined("median", vectors), np.median(np.float64(vectors), axis=0), rtol=1e-6)
    assert all((a == b).all() for a, b in zip(vectors, copies, strict=True))


@pytest.mark.parametrize("n", [4, 31])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_ones_are_worked_on_block_by_block(n: int, dtype: str) -> None:
    vectors = honest(n, 50_001, dtype=dtype)
    np.testing.assert_allclose(combined("median", vectors), np.median(np.float64(vectors), axis=0), rtol=1e-6)
    expected = np.sort(np.float64(vectors), axis=0)[1:-1].mean(axis=0)
    out = np.empty(50_001, dtype)
    middle_mean(vectors, 1, out)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("beta", "n", "cut"),
    [
        (0.0, 9, 0),
        (0.1, 10, 1),
        (0.1, 20, 2),
        (0.07, 100, 7),
        (0.29, 100, 29),
        (0.1, 5, 1),
        (0.1, 11, 2),
        (0.1, 2, 0),
        (0.1, 1, 0),
        (0.49, 3, 1),
        (0.49, 4, 1),
        (0.4999999999, 2, 0),
    ],
)
def test_at_least_the_share_is_left_out_as_long_as_something_remains(beta: float, n: int, cut: int) -> None:
    assert Trimmed(beta).cut(n) == cut


def test_what_was_nearly_too_large_does_not_overflow() -> None:
    most = np.finfo(np.float32).max
    vectors = [np.array([most], np.float32) for _ in range(4)]
    assert combined("median", vectors) == most
    assert combined("trimmed:0", vectors) == most


@given(st.permutations(range(8)))
def test_in_float32_the_order_does_not_change_a_bit(order: list[int]) -> None:
    vectors = honest(8, 100, dtype="float32")
    mixed = [vectors[i] for i in order]
    for text in ("median", "trimmed:0.2"):
        assert combined(text, mixed).tobytes() == combined(text, vectors).tobytes()


@pytest.mark.parametrize("aggregator", [Median(), Trimmed(0.2)])
def test_the_result_may_take_the_place_of_a_part(aggregator: Median | Trimmed) -> None:
    vectors = honest(7, 20_000, dtype="float32")
    out = np.empty_like(vectors[0])
    aggregator.combine(vectors, out)
    aggregator.combine(vectors, vectors[3])
    assert (vectors[3] == out).all()


def test_scratch_memory_is_a_block_however_long_the_parts_are() -> None:
    vectors = honest(9, 500_000, dtype="float32")
    out = np.empty_like(vectors[0])
    tracemalloc.start()
    try:
        Median().combine(vectors, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < vectors[0].nbytes / 2


@pytest.mark.parametrize("n", [5, FEW, FEW + 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_left_out_like_what_is_too_large(n: int, bad: float) -> None:
    vectors = honest(n, 30, dtype="float32")
    wanted, out = np.empty(30, np.float32), np.empty(30, np.float32)
    middle_mean([*vectors[1:], np.full(30, -1e30 if bad < 0 else 1e30, np.float32)], 1, wanted)
    middle_mean([*vectors[1:], np.full(30, bad, np.float32)], 1, out)
    assert out.tobytes() == wanted.tobytes()
