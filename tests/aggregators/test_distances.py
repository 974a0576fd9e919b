"""Squared distances: exact enough for an aggregator to trust, whatever a hostile contribution does to the rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.aggregators import distances
from ps.errors import UsageError
from support.rounds import cut, honest

BIG = 2 * (1 << 21) // (8 * 4) + 77
"""Elements that take three blocks of four vectors, the last of them short."""


def reference(vectors: list[np.ndarray]) -> np.ndarray:
    wide = np.asarray(vectors, np.longdouble)
    return np.float64([[((x - y) ** 2).sum() for y in wide] for x in wide])


@given(st.integers(1, 8), st.integers(0, 50), st.integers(0, 10**6), st.sampled_from(["float32", "float64"]))
@settings(max_examples=60)
def test_they_are_what_the_definition_says(n: int, size: int, seed: int, dtype: str) -> None:
    vectors = honest(n, size, seed, dtype)
    copies = [v.copy() for v in vectors]
    found = distances(vectors)
    np.testing.assert_allclose(found, reference(vectors), rtol=1e-10)
    assert (found == found.T).all()
    assert not found.diagonal().any()
    assert found.dtype == np.float64
    assert all((a == b).all() for a, b in zip(vectors, copies, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_vectors_are_worked_on_block_by_block(dtype: str) -> None:
    vectors = honest(4, BIG, dtype=dtype)
    np.testing.assert_allclose(distances(vectors), reference(vectors), rtol=1e-10)


def test_those_of_the_chunks_add_up_to_those_of_the_model() -> None:
    vectors = honest(6, 1000, dtype="float32")
    parts = cut(vectors, [1, 300, 301, 990])
    np.testing.assert_allclose(sum(distances(part) for part in parts), distances(vectors), rtol=1e-12)


@pytest.mark.parametrize("size", [1e9, 1e20, 1e37])
@pytest.mark.parametrize("where", [0, 3, 6])
def test_a_huge_one_does_not_blur_the_others(size: float, where: int) -> None:
    vectors = honest(6, 100, dtype="float32")
    vectors.insert(where, np.float32(size) * vectors[0])
    np.testing.assert_allclose(distances(vectors), reference(vectors), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_offset_that_all_share_does_not_blur_them(dtype: str) -> None:
    vectors = [v + np.dtype(dtype).type(1e6) for v in honest(6, 100, dtype=dtype)]
    np.testing.assert_allclose(distances(vectors), reference(vectors), rtol=1e-10)
    vectors.append(np.zeros(100, dtype))  # the shortest, so that the offset stays
    np.testing.assert_allclose(distances(vectors), reference(vectors), rtol=1e-10)


def test_equal_ones_are_at_distance_zero_to_the_bit() -> None:
    vectors = honest(5, 3000, dtype="float32")
    vectors += [vectors[2].copy(), vectors[4].copy(), np.float32(1e30) * vectors[0], np.float32(1e30) * vectors[0]]
    found = distances(vectors)
    equal = {tuple(pair) for pair in np.argwhere(found == 0).tolist() if pair[0] < pair[1]}
    assert equal == {(2, 5), (4, 6), (7, 8)}


def test_what_is_too_large_for_a_number_is_infinitely_far_from_all_but_the_others_are_not() -> None:
    vectors = [*honest(3, 10), np.full(10, 1e200), np.full(10, -1e200)]
    found = distances(vectors)
    np.testing.assert_allclose(found[:3, :3], reference(vectors[:3]), rtol=1e-10)
    assert np.isinf(found[3:, :3]).all()
    assert np.isinf(found[3, 4])


def test_vectors_of_different_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 vectors of 3 elements, not one of shape \[4\]"):
        distances([np.zeros(3), np.zeros(4)])


def test_no_vectors_have_no_distances() -> None:
    assert distances([]).shape == (0, 0)
