"""Promises of the noise: it is Gaussian on its grid, nobody can repeat it, and sums on the grid hold their clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.privacy.grid import STEPS, bound_of, step_of, to_steps
from ps.privacy.noise import draw, new_key
from support.chances import chi_square_of_normal


def test_the_noise_is_gaussian_by_a_chi_square_test_over_a_thousand_cells() -> None:
    deviation = 3.5 * 2**STEPS
    assert chi_square_of_normal(draw(bytes(32), 1, 1_000_000, deviation) / deviation) > 1e-4


def test_noise_with_another_deviation_would_be_found_out() -> None:
    assert chi_square_of_normal(1.02 * draw(bytes(32), 1, 1_000_000, 1e6) / 1e6) < 1e-9


def test_neighbouring_numbers_have_nothing_in_common() -> None:
    found = draw(bytes(32), 1, 1_000_000, 1e6) / 1e6
    for lag in (1, 2, 1 << 14, 1 << 15):
        assert abs(np.mean(found[lag:] * found[:-lag])) < 5 / math.sqrt(found.size)


def test_no_two_keys_streams_or_blocks_give_the_same_noise() -> None:
    one, other = new_key(), new_key()
    assert one != other
    found = [draw(one, 0, 1 << 17, 1e6), draw(one, 1, 1 << 17, 1e6), draw(other, 0, 1 << 17, 1e6)]
    blocks = np.concatenate(found).reshape(-1, 1 << 15)
    correlations = np.corrcoef(blocks) - np.eye(len(blocks))
    assert np.abs(correlations).max() < 6 / math.sqrt(1 << 15)


def test_a_key_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        new_key(lambda size: bytes(size - 1))


@given(st.floats(1e-15, 1e15))
def test_a_step_is_a_power_of_two_and_a_clip_has_about_16_million(clip: float) -> None:
    assert math.frexp(step_of(clip))[0] == 0.5
    assert 2**STEPS <= clip / step_of(clip) < 2 ** (STEPS + 1)


@given(st.data())
def test_no_delta_has_more_than_its_clip_on_the_grid(data: st.DataObject) -> None:
    clip = data.draw(st.sampled_from([1e-15, 0.3, 1.0, 7.0, 1e15]))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    size = data.draw(st.integers(1, 300))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    delta = (rng.standard_normal(size) * clip * data.draw(st.sampled_from([1e-9, 0.1, 1.0, 1e9]))).astype(dtype)
    norm = math.sqrt(float(np.sum(np.square(delta, dtype=np.float64))))
    steps = [int(step) for step in to_steps(delta, bound_of(norm, clip), clip)]
    assert sum(step * step for step in steps) <= (clip / step_of(clip)) ** 2, "in whole numbers, without rounding"


def test_what_is_within_the_clip_stays_what_it_is_to_a_step() -> None:
    delta = np.linspace(-0.1, 0.1, 50, dtype=np.float32)
    found = to_steps(delta, bound_of(0.5, 1.0), 1.0) * step_of(1.0)
    np.testing.assert_allclose(found, delta, atol=step_of(1.0))


def test_an_element_is_within_the_clip_even_where_the_norm_was_a_lie() -> None:
    assert abs(to_steps(np.full(3, 1e30, np.float32), 1.0, 1.0)).max() * step_of(1.0) == 1.0
