"""Frames byte by byte, as another implementation has to write and read them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ps.compress.int8 import ROW as SCALED
from ps.compress.onebit import ROW as LEVELLED
from support.vectors import KEY, codec, decode, encode


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_none_is_the_elements() -> None:
    frame = encode("none", f32(1, -2))
    assert frame.tobytes() == struct.pack("<2f", 1, -2)
    assert encode("none", np.array([3.0])).tobytes() == struct.pack("<d", 3)


def test_fp16_is_two_bytes_each() -> None:
    frame = encode("fp16", f32(1, -2, 1e-7, 1e9, -1e-9))
    assert frame.tobytes() == struct.pack("<5H", 0x3C00, 0xC000, 0x0002, 0x7BFF, 0x8000)
    assert decode("fp16", frame, 5).tolist() == [1, -2, 2**-23, 65504, 0]


def test_bf16_is_the_upper_half() -> None:
    frame = encode("bf16", f32(1, -2, 1.00390625, 1.01171875, 3.4e38))
    assert frame.tobytes() == struct.pack("<5H", 0x3F80, 0xC000, 0x3F80, 0x3F82, 0x7F7F)
    assert decode("bf16", frame, 5).tolist() == [1, -2, 1, 1.015625, float(np.float32(3.3895314e38))]


def test_int8_is_scales_then_codes() -> None:
    values = np.zeros(SCALED + 2, np.float32)
    values[[0, 1, -2, -1]] = 127, -127, 0, -2.54
    frame = encode("int8", values)
    assert frame.size == 2 * 4 + values.size
    scales = np.frombuffer(frame[:8].tobytes(), "<f4")
    np.testing.assert_allclose(scales, [1, 0.02], rtol=1e-6)
    assert scales[0] * 127 > 127 - 1e-4 and scales[0] >= 1
    codes = np.frombuffer(frame[8:].tobytes(), "i1")
    assert codes[0] in (126, 127) and codes[1] == -127 and not codes[2:-1].any() and codes[-1] == -127
    hand = struct.pack("<f3b", 0.5, 127, -2, 0)
    assert decode("int8", np.frombuffer(hand, np.uint8), 3).tolist() == [63.5, -1, 0]


def test_onebit_is_middles_then_half_distances_then_bits() -> None:
    values = np.concatenate([np.tile(f32(3, -1), LEVELLED // 2), f32(5, 5, 5)])
    frame = encode("onebit", values)
    assert frame.tobytes() == struct.pack("<4f", 1, 2.5, 2, 2.5) + bytes([0b10101010] * (LEVELLED // 8)) + bytes(
        [0b11100000]
    )
    np.testing.assert_array_equal(decode("onebit", frame, values.size), values)


def test_topk_is_values_then_counts_then_indices_within_their_segment() -> None:
    values = np.zeros(70_000, np.float32)
    values[[3, 65_535, 65_536, 69_999]] = 1, -4, 2, 3
    frame = encode(f"topk:{4 / 70_000}", values)
    assert frame.tobytes() == struct.pack("<4f2I4H", 1, -4, 2, 3, 2, 2, 3, 65_535, 0, 4463)
    np.testing.assert_array_equal(decode("topk", frame, values.size), values)


def test_randomk_is_the_values_at_the_drawn_indices() -> None:
    values = np.arange(10, dtype=np.float32)
    words = KEY.shared().words(2)
    halves = [int(words[0]) & 0xFFFFFFFF, int(words[0]) >> 32, int(words[1]) & 0xFFFFFFFF]
    edges = [0, 3, 6, 10]
    drawn = [edges[j] + ((edges[j + 1] - edges[j]) * halves[j] >> 32) for j in range(3)]
    assert encode("randomk:0.3", values).tobytes() == struct.pack("<3f", *drawn)


def test_powersgd_is_the_rest_then_p_then_q() -> None:
    assert codec("powersgd:1").shape(11) == (2, 4, 1)  # type: ignore[attr-defined]
    hand = np.frombuffer(struct.pack("<3f 2f 4f", 7, 8, 9, 2, -1, 1, 2, 3, 4), np.uint8)
    assert decode("powersgd:1", hand, 11).tolist() == [2, 4, 6, 8, -1, -2, -3, -4, 7, 8, 9]
    numbers = [*range(1, 13), *range(12)]
    hand = np.frombuffer(struct.pack("<24f", *numbers), np.uint8)
    left, right = np.reshape(numbers[:12], (6, 2)), np.reshape(numbers[12:], (2, 6))
    np.testing.assert_array_equal(decode("powersgd:2,columns=6", hand, 36), (left @ right).ravel())


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_powersgd_sends_what_is_too_small_as_it_is(size: int) -> None:
    values = np.arange(1, size + 1, dtype=np.float32)
    frame = encode("powersgd:4", values)
    assert frame.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("fp16", 2.0),
        ("bf16", 2.0),
        ("int8", 3.9),
        ("onebit", 31.5),
        ("topk:0.01", 66),
        ("randomk:0.01", 99),
        ("powersgd:4", 85),
    ],
)
def test_a_chunk_of_2_mib_shrinks_as_promised(text: str, ratio: float) -> None:
    size = 1 << 19
    assert 4 * size / codec(text).max_bytes(size, "float32") >= ratio
    assert encode(text, np.ones(size, np.float32)).size == codec(text).max_bytes(size, "float32")
