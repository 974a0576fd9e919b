"""Promises of every aggregator alike: attackers, order, equal contributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.aggregators import AGGREGATORS
from support.rounds import combined, honest

ROBUST = ["median", "trimmed:0.3", "krum:f=3", "multikrum:f=3", "geomedian"]
ORDERED = [*ROBUST, "mean", "weighted", "clip", "clip:1"]


def attacked(size: float, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return seven honest contributions and three of the attackers', who agree on a direction; and the honest mean."""
    rng = np.random.default_rng(seed)
    good = honest(7, 40, seed)
    towards = rng.standard_normal(40)
    bad = [size * towards + rng.standard_normal(40) for _ in range(3)]
    mixed = good + bad
    return [mixed[i] for i in rng.permutation(10)], np.mean(good, axis=0)


@pytest.mark.parametrize("size", [1e2, 1e6, 1e9, 1e15, 1e30])
@pytest.mark.parametrize("text", ROBUST)
def test_three_of_ten_however_far_off_do_not_move_it_beyond_what_the_others_spread(text: str, size: float) -> None:
    for seed in range(5):
        mixed, truth = attacked(size, seed)
        assert np.linalg.norm(combined("mean", mixed) - truth) > size
        assert np.linalg.norm(combined(text, mixed) - truth) < 2 * 40**0.5


@pytest.mark.parametrize("text", ["clip", "clip:9"])
def test_clipping_bounds_what_each_can_do(text: str) -> None:
    for size in (1e2, 1e9):
        mixed, _ = attacked(size, 0)
        bound = 9.0 if text == "clip:9" else float(np.median([np.linalg.norm(v) for v in mixed]))
        assert np.linalg.norm(combined(text, mixed)) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("text", ORDERED)
@settings(max_examples=30)
@given(st.integers(0, 10**6), st.permutations(range(9)))
def test_the_order_of_the_contributions_does_not_matter(text: str, seed: int, order: list[int]) -> None:
    vectors = honest(9, 12, seed)
    found = combined(text, [vectors[i] for i in order])
    np.testing.assert_allclose(found, combined(text, vectors), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_contributions_are_the_result(name: str, dtype: str) -> None:
    [vector] = honest(1, 30, dtype=dtype)
    np.testing.assert_allclose(combined(name, [vector.copy() for _ in range(6)]), vector, rtol=1e-6)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_contributions_that_change_nothing_change_nothing(name: str) -> None:
    assert not combined(name, [np.zeros(5, np.float32) for _ in range(5)]).any()
