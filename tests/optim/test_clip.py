"""The global norm: exact enough, the same every time, and never a division by zero."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ps.optim import clip_scale, square_sum
from ps.optim.clip import BLOCK
from ps.threads import ThreadTeam

SIZES = (0, 1, BLOCK, BLOCK + 1, 3 * BLOCK + 11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_square_sum_is_accurate_to_double_precision(size: int, dtype: str) -> None:
    gradient = np.random.default_rng(size).standard_normal(size).astype(dtype)
    expected = math.fsum(x * x for x in gradient.tolist())
    assert square_sum(gradient) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_square_sum_of_a_function_is_that_of_its_array(size: int) -> None:
    gradient = np.random.default_rng(size).standard_normal(size).astype(np.float32)

    def filled(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        out[:] = gradient[lo:hi]
        return out

    assert square_sum(filled, size, np.float32) == square_sum(gradient)
    assert square_sum(lambda lo, hi, out: gradient[lo:hi], size, np.float32) == square_sum(gradient)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [*SIZES, 20 * BLOCK + 7])
def test_threads_do_not_change_a_bit_of_the_sum(size: int, dtype: str) -> None:
    gradient = np.random.default_rng(size).standard_normal(size).astype(dtype)
    expected = square_sum(gradient)
    for threads in (2, 3, 5):
        team = ThreadTeam(threads)
        assert square_sum(gradient, team=team) == expected
        assert square_sum(lambda lo, hi, out: np.multiply(gradient[lo:hi], 1, out=out), size, dtype, team=team) == (
            expected
        )


def test_square_sum_leaves_the_gradient_as_it_is() -> None:
    gradient = np.frombuffer(np.arange(1000, dtype=np.float32).tobytes(), np.float32)
    assert square_sum(gradient) == 999 * 1000 * 1999 / 6


def test_squares_that_overflow_float32_do_not_overflow_the_sum() -> None:
    assert square_sum(np.full(4, 1e30, np.float32)) == pytest.approx(4e60)


def test_nan_and_inf_are_not_hidden() -> None:
    assert math.isnan(square_sum(np.array([1, np.nan], np.float32)))
    assert square_sum(np.array([1, -np.inf], np.float32)) == math.inf


def test_square_sum_of_a_function_needs_size_and_dtype() -> None:
    with pytest.raises(TypeError, match="size and dtype"):
        square_sum(lambda lo, hi, out: out)


def test_clip_scale_brings_the_norm_down_to_the_bound_and_never_up() -> None:
    assert clip_scale(25.0, 1.0) == 0.2
    assert clip_scale(25.0, 5.0) == 1.0
    assert clip_scale(25.0, 100.0) == 1.0
    assert clip_scale(0.0, 1.0) == 1.0


@pytest.mark.parametrize("squares", [math.nan, math.inf])
def test_a_norm_that_is_no_number_clips_nothing(squares: float) -> None:
    assert clip_scale(squares, 1.0) == 1.0
