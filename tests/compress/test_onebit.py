"""onebit: Seide's two means for each row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from ps.compress.onebit import ROW
from support.vectors import decode, encode, vectors


def seide(x: np.ndarray) -> np.ndarray:
    """Return the reconstruction, one row after the other, in double precision."""
    out = np.empty(x.size)
    for start in range(0, x.size, ROW):
        row = x[start : start + ROW].astype(np.float64)
        up = row >= 0
        out[start : start + ROW] = np.where(
            up, row[up].mean() if up.any() else 0, row[~up].mean() if not up.all() else 0
        )
    return out


@given(vectors())
def test_each_element_becomes_the_mean_of_its_sign(x: np.ndarray) -> None:
    decoded = decode("onebit", encode("onebit", x), x.size, str(x.dtype)).astype(np.float64)
    rows = [np.abs(x[i : i + ROW]).max() for i in range(0, x.size, ROW)]
    scale = np.repeat(rows, ROW)[: x.size].astype(np.float64)
    tolerance = 8 * float(np.finfo(x.dtype).eps) * scale + 4 * float(np.finfo(x.dtype).smallest_subnormal)
    assert (np.abs(decoded - seide(x)) <= tolerance).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_row_of_one_sign_becomes_its_mean(sign: int) -> None:
    x = sign * np.arange(1, 11, dtype=np.float32)
    assert decode("onebit", encode("onebit", x), 10).tolist() == [sign * 5.5] * 10


def test_rows_do_not_mix() -> None:
    x = np.concatenate([np.full(ROW, 1.0), np.full(ROW, -100.0), np.full(5, 0.25)]).astype(np.float32)
    np.testing.assert_array_equal(decode("onebit", encode("onebit", x), x.size), x)
