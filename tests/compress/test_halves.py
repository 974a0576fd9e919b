"""fp16 and bf16 round as IEEE 754 and NumPy do, for every half and between any two."""

from __future__ import annotations

import numpy as np
import pytest

from support.vectors import decode, encode

HALVES = np.arange(1 << 16, dtype=np.uint32)


def around(points: np.ndarray) -> np.ndarray:
    """Return these float32, the middles between neighbours, and the next ones on either side of all."""
    points = np.sort(points)
    middles = (points[:-1].astype(np.float64) / 2 + points[1:].astype(np.float64) / 2).astype(np.float32)
    all_points = np.concatenate([points, middles])
    sides = [np.nextafter(all_points, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([all_points, *sides])


def test_every_half_survives() -> None:
    finite = HALVES[(HALVES & 0x7C00) != 0x7C00].astype(np.uint16)
    values = finite.view(np.float16).astype(np.float32)
    frame = encode("fp16", values)
    assert frame.tobytes() == finite.tobytes()
    assert decode("fp16", frame, values.size).tobytes() == values.tobytes()
    assert decode("fp16", frame, values.size, "float64").tobytes() == values.astype(np.float64).tobytes()


def test_fp16_rounds_to_nearest_even() -> None:
    finite = HALVES[(HALVES & 0x7C00) != 0x7C00].astype(np.uint16)
    values = around(finite.view(np.float16).astype(np.float32))
    values = values[np.abs(values) <= 65504]
    with np.errstate(all="ignore"):
        expected = values.astype(np.float16)
    assert encode("fp16", values).tobytes() == expected.tobytes()


def test_every_bfloat16_survives() -> None:
    finite = HALVES[(HALVES & 0x7F80) != 0x7F80]
    values = (finite << 16).view(np.float32)
    frame = encode("bf16", values)
    assert frame.tobytes() == finite.astype(np.uint16).tobytes()
    assert decode("bf16", frame, values.size).tobytes() == values.tobytes()


def test_bf16_rounds_to_nearest_even() -> None:
    finite = HALVES[(HALVES & 0x7F80) != 0x7F80]
    grid = (finite << 16).view(np.float32)
    values = around(grid)
    values = values[np.abs(values) <= grid.max()]
    got = decode("bf16", encode("bf16", values), values.size).astype(np.float64)
    down = (values.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    up = (np.minimum(values.view(np.uint32) & 0x7FFFFFFF, 0x7F7EFFFF) & 0xFFFF0000) + 0x10000
    up = np.copysign(up.astype(np.uint32).view(np.float32), values).astype(np.float64)
    near, far = np.abs(values - down), np.abs(values - up)
    even = (down.astype(np.float32).view(np.uint32) >> 16) % 2 == 0
    exact = near == 0
    expected = np.where(exact | (near < far) | ((near == far) & even), down, up)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("text", "largest"), [("fp16", 65504.0), ("bf16", float(np.float32(3.3895314e38)))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_too_large_becomes_the_largest(text: str, largest: float, dtype: str) -> None:
    limit = float(np.finfo(dtype).max)
    values = np.array([largest * 1.001, -limit, limit], dtype)
    assert decode(text, encode(text, values), 3, dtype).tolist() == [largest, -largest, largest]
