"""Conversions between half precision and float32: every number, to nearest, as NumPy and ml_dtypes have it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from ps.half import BLOCK, Widened, narrow, parts_of, widen

BFLOAT16, FLOAT16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
each = pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=str)
EVERY = np.arange(1 << 16, dtype=np.uint16)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have the same bits, or NaN both."""
    bits = np.dtype(f"u{a.itemsize}")
    with np.errstate(all="ignore"):
        return bool(((a.view(bits) == b.view(bits)) | (np.isnan(a) & np.isnan(b))).all())


@each
def test_every_half_becomes_the_float32_that_it_is_and_the_same_half_again(dtype: np.dtype) -> None:
    half = EVERY.view(dtype)
    finite = half[np.isfinite(half.astype(np.float32))]
    for part in (half, finite, half[:1], half[:0]):
        out = np.full(part.size, 7, np.float32)
        widen(part, out)
        assert same(out, part.astype(np.float32))
        back = np.full(part.size, 7, dtype)
        narrow(out, back)
        assert same(back, part)


@each
def test_a_float32_becomes_the_nearest_half_and_of_two_the_even_one(dtype: np.dtype) -> None:
    half = EVERY.view(dtype).astype(np.float32)
    finite = np.sort(half[np.isfinite(half)])
    middle = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    nearby = [np.nextafter(middle, np.float32(sign) * np.float32(np.inf)) for sign in (-1, 1)]
    random = np.random.default_rng(0).integers(0, 1 << 32, 300_000, dtype=np.uint32).view(np.float32)
    for values in (middle, *nearby, random, np.float32([65504, 65519.996, 65520, -65520, 1e30, np.nan])):
        found = np.empty(values.size, dtype)
        with np.errstate(all="ignore"):
            narrow(values, found)
            assert same(found, values.astype(dtype))


@each
def test_a_vector_is_read_part_by_part_as_a_whole(dtype: np.dtype) -> None:
    half = np.random.default_rng(1).standard_normal(2 * BLOCK + 5).astype(dtype)
    expected = half.astype(np.float32)
    widened = Widened(half)
    assert (widened.size, widened.dtype) == (half.size, np.float32)
    assert same(widened.whole(), expected)
    assert same(widened[BLOCK - 3 : BLOCK + 9], expected[BLOCK - 3 : BLOCK + 9])
    out = np.empty(7, np.float32)
    assert widened.read(2, 9, out) is out
    assert same(out, expected[2:9])
    assert same(np.concatenate([part.copy() for part in parts_of(half)]), expected)
