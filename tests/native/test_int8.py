"""Promises of the compiled int8: NumPy's bytes and numbers, whatever is encoded and whichever part is read."""

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
from ps.compress.int8 import ROW
from support.long import cases

compiled: Any = native.kernels()
if compiled is None:
    pytest.skip(f"NumPy's lines run here: {native.outcome('native')}", allow_module_level=True)

CODEC = CODECS.parse("int8").build()
SIZES = st.integers(0, 40) | st.sampled_from([1023, 1024, 1025, 2050, 5000])
NUMBERS = [0.0, -0.0, 1e-45, -1e-40, 1.2e-38, 3.0, -1e30, 3e38]


def by_both(work: Callable[[], Any]) -> tuple[Any, Any]:
    with np.errstate(all="ignore"):
        found = work()
        with mock.patch.object(native, "_used", None):
            return found, work()


@settings(max_examples=cases(60, 3000))
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    size=SIZES,
    magnitude=st.sampled_from([1.0, 1e-44, 1e-30, 1e38]),
    odd=st.sampled_from([None, *NUMBERS, np.nan, np.inf, -np.inf]),
    offset=st.integers(0, 9),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 99),
)
def test_frames_and_what_is_read_of_them_are_numpys(
    dtype: str, size: int, magnitude: float, odd: float | None, offset: int, ends: tuple[float, float], seed: int
) -> None:
    rng, key = np.random.default_rng(seed), Key(seed, 1, 2, 3)
    with np.errstate(all="ignore"):
        values = (rng.uniform(-1, 1, size) * magnitude).astype(dtype)
    if odd is not None:
        values[rng.random(size) < 0.1] = odd
    lo, hi = sorted(int(end * size) for end in ends)

    def work() -> tuple[bytes, bytes]:
        memory = np.zeros(CODEC.max_bytes(size, dtype) + offset, np.uint8)
        frame = CODEC.encode(values, key, {}, memory[offset:])
        decoded = CODEC.open(frame, size, dtype, key, trusted=True)
        return frame.tobytes(), decoded.read(lo, hi, np.empty(hi - lo, dtype)).tobytes()

    found, expected = by_both(work)
    assert found == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loops_do_it_where_frames_are_aligned_and_leave_the_rest(dtype: str) -> None:
    kind, size = np.dtype(dtype), 3 * ROW + 5
    x, noise = np.full(size, -0.5, kind), np.full(size, 40_000, np.uint16)
    scales, codes, out = np.zeros(4, kind), np.zeros(size, np.int8), np.zeros(size, kind)
    assert compiled.quantize(x, noise, scales, codes, 1 / 127, 1e-30) is True
    assert compiled.dequantize(out, scales, codes, 0) is compiled.dequantize(out[7:], scales, codes, 7) is True
    assert scales == pytest.approx([0.5 / 127] * 4, rel=1e-6) and out == pytest.approx(x, rel=0.01)
    assert compiled.dequantize(out[7:], scales, codes.view(np.uint8), 7) is None
    assert compiled.quantize(x, noise, scales, x.view(np.int8)[:size], 1 / 127, 1e-30) is None, "memory in common"
    x[2 * ROW] = np.nan
    assert compiled.quantize(x, noise, scales, codes, 1 / 127, 1e-30) is False
    for wrong in (
        lambda: compiled.quantize(x, noise, scales[1:], codes, 1 / 127, 1e-30),
        lambda: compiled.quantize(x, noise, scales, codes, 1 / 129, 1e-30),
        lambda: compiled.quantize(x, noise, scales, codes, 1 / 127, 0.0),
        lambda: compiled.dequantize(out, scales, codes, 1),
        lambda: compiled.dequantize(out, scales, codes, -1),
    ):
        with pytest.raises(ValueError, match=r"scales|elements|array"):
            wrong()
