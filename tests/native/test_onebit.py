"""Promises of the compiled onebit: NumPy's bytes and numbers, whatever is encoded and whichever part is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps import native
from ps.compress import CODECS, Key
from ps.compress.onebit import ROW
from support.long import cases

compiled: Any = native.kernels()
if compiled is None:
    pytest.skip(f"NumPy's lines run here: {native.outcome('native')}", allow_module_level=True)

CODEC = CODECS.parse("onebit").build()
KEY = Key(0, 1, 2, 3)
SIZES = st.integers(0, 40) | st.sampled_from([1023, 1025, 4095, 4096, 4097, 9001])
NUMBERS = [0.0, -0.0, 1e-45, -1e-40, 3.0, -1e30, 3e38, np.inf, np.nan]


def by_both(work: Callable[[], Any]) -> tuple[Any, Any]:
    with np.errstate(all="ignore"):
        found = work()
        with mock.patch.object(native, "_used", None):
            return found, work()


def without_nan(frame: Any, dtype: str, size: int) -> bytes:
    """The bytes of a frame, with any NaN for any other one."""
    levels = frame[: 2 * -(-size // ROW) * np.dtype(dtype).itemsize].copy().view(dtype)
    levels[np.isnan(levels)] = np.nan
    return levels.tobytes() + frame[levels.nbytes :].tobytes()


@settings(max_examples=cases(60, 3000))
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    size=SIZES,
    magnitude=st.sampled_from([1.0, 1e-44, 1e38]),
    shift=st.sampled_from([0.0, 2.0, -2.0]),
    odd=st.sampled_from([None, *NUMBERS]),
    offset=st.integers(0, 9),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 99),
)
def test_frames_and_what_is_read_of_them_are_numpys(
    dtype: str, size: int, magnitude: float, shift: float, odd: float | None, offset: int, ends: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        values = ((rng.uniform(-1, 1, size) + shift) * magnitude).astype(dtype)
    if odd is not None:
        values[rng.random(size) < 0.1] = odd
    lo, hi = sorted(int(end * size) for end in ends)

    def work() -> tuple[bytes, bytes]:
        memory = np.zeros(CODEC.max_bytes(size, dtype) + offset, np.uint8)
        frame = CODEC.encode(values, KEY, {}, memory[offset:])
        read = CODEC.open(frame, size, dtype, KEY, trusted=True).read(lo, hi, np.empty(hi - lo, dtype))
        read[np.isnan(read)] = np.nan
        return without_nan(frame, dtype, size), read.tobytes()

    found, expected = by_both(work)
    assert found == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loops_do_it_where_levels_are_aligned_and_leave_the_rest(dtype: str) -> None:
    kind, size = np.dtype(dtype), 2 * ROW + 5
    x = np.where(np.arange(size) % 3 == 0, -1, 3).astype(kind)
    middles, halves, bits, out = (
        np.zeros(3, kind),
        np.zeros(3, kind),
        np.zeros(size // 8 + 1, np.uint8),
        np.zeros_like(x),
    )
    assert compiled.to_bits(x, middles, halves, bits) is True
    assert (
        compiled.from_bits(out, middles, halves, bits, 0)
        is compiled.from_bits(out[7:], middles, halves, bits, 7)
        is True
    )
    assert out == pytest.approx(x) and list(middles) == [1] * 3 and list(halves) == [2] * 3
    assert compiled.from_bits(out, middles, halves, bits.view(np.int8), 0) is None
    assert compiled.from_bits(x[:3], x[:3], halves, bits, 0) is None, "memory in common"
    assert compiled.to_bits(x, x[:3], halves, bits) is None
    assert compiled.to_bits(x, middles, middles, bits) is None
    for wrong in (
        lambda: compiled.to_bits(x, middles[1:], halves[1:], bits),
        lambda: compiled.to_bits(x, middles, halves[1:], bits),
        lambda: compiled.to_bits(x, middles, halves, bits[1:]),
        lambda: compiled.from_bits(out, middles, halves, bits[1:], 0),
        lambda: compiled.from_bits(out, middles[1:], halves[1:], bits, 0),
        lambda: compiled.from_bits(out, middles, halves, bits, 4),
        lambda: compiled.from_bits(out, middles, halves, bits, -1),
    ):
        with pytest.raises(ValueError, match=r"levels|elements|array"):
            wrong()
