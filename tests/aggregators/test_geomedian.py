"""The geometric median: no point nearby is better, and who is far off has no say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.aggregators import distances
from ps.aggregators.geomedian import GeoMedian
from support.rounds import combined, cut, honest


def objective(z: np.ndarray, vectors: list[np.ndarray]) -> float:
    return sum(float(np.linalg.norm(z - v)) for v in vectors)


def smoothed_weiszfeld(vectors: list[np.ndarray], iterations: int, eps: float) -> np.ndarray:
    """Algorithm 2 of the paper, over the vectors themselves, from their mean."""
    z = np.mean(vectors, axis=0)
    for _ in range(iterations):
        betas = [1 / max(eps, float(np.linalg.norm(z - v))) for v in vectors]
        z = sum(b * v for b, v in zip(betas, vectors, strict=True)) / sum(betas)
    return z


@given(st.integers(3, 9), st.integers(2, 30), st.integers(0, 10**6))
@settings(max_examples=40)
def test_no_point_nearby_has_a_smaller_sum_of_distances(n: int, size: int, seed: int) -> None:
    vectors = honest(n, size, seed)
    z = combined("geomedian:5000", vectors)
    # Distances under a millionth of the typical one count as that, which may cost as much for each contribution.
    least = objective(z, vectors) - n * 1e-6 * float(distances(vectors).max()) ** 0.5
    rng = np.random.default_rng(seed)
    for radius in (1e-2, 0.1, 1.0):
        for _ in range(20):
            step = rng.standard_normal(size)
            nearby = z + radius * step / np.linalg.norm(step)
            assert objective(nearby, vectors) >= least
    assert all(objective(v, vectors) >= least for v in vectors)


@given(st.integers(3, 9), st.integers(0, 10**6))
@settings(max_examples=40)
def test_away_from_the_contributions_their_pulls_cancel(n: int, seed: int) -> None:
    vectors = honest(n, 50, seed)
    z = combined("geomedian:5000", vectors)
    pulls = [(v - z) / np.linalg.norm(v - z) for v in vectors]
    assert np.linalg.norm(sum(pulls)) < 1e-6


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_distances_of_chunks_lead_where_the_vectors_themselves_do(iterations: int) -> None:
    vectors = [*honest(6, 20), np.full(20, 30.0)]
    weights = GeoMedian(iterations).weights(sum(distances(part) for part in cut(vectors, [7, 8])))
    expected = smoothed_weiszfeld(vectors, iterations, 1e-6)
    np.testing.assert_allclose(weights @ np.array(vectors), expected, rtol=1e-9)


def test_in_a_triangle_with_a_wide_angle_it_is_that_corner() -> None:
    corner = np.array([0.0, 0.1])
    z = combined("geomedian:5000", [np.array([-1.0, 0.0]), np.array([1.0, 0.0]), corner])
    np.testing.assert_allclose(z, corner, atol=1e-4)


def test_on_a_line_it_is_the_median() -> None:
    z = combined("geomedian:5000", [np.array([x]) for x in (0.0, 1.0, 2.0, 50.0, 1000.0)])
    np.testing.assert_allclose(z, [2.0], atol=1e-3)


@given(st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=40)
def test_weights_are_a_convex_combination(n: int, seed: int) -> None:
    weights = GeoMedian().weights(distances(honest(n, 10, seed)))
    assert weights.shape == (n,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("others", [[1.0, 1e30], [5.0], [1e-9, 1e9, 2.0]])
def test_where_half_are_one_point_it_is_that_point(others: list[float]) -> None:
    [vector] = honest(1, 10)
    vectors = [vector] * (len(others) + 1) + [vector + shift for shift in others]
    np.testing.assert_allclose(combined("geomedian", vectors), vector, rtol=1e-12)


def test_the_unit_does_not_matter() -> None:
    vectors = honest(7, 10)
    found = [GeoMedian().weights(distances([unit * v for v in vectors])) for unit in (1.0, 1e-12, 1e12)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)


def test_those_infinitely_far_off_have_no_weight() -> None:
    weights = GeoMedian().weights(distances([*honest(3, 10), np.full(10, 1e200), np.full(10, -1e200)]))
    assert weights[3:].tolist() == [0, 0]
    assert weights.sum() == pytest.approx(1)
