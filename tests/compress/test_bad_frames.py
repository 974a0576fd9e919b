"""Frames from the network are checked completely, and cost no more memory than the chunk."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import BadMessage
from support.vectors import ALL, KEY, codec, encode

SIZE = 70_000
texts = st.sampled_from(ALL)


def open_frame(text: str, frame: bytes, size: int = SIZE, dtype: str = "float32") -> np.ndarray:
    out = np.zeros(size, dtype)
    codec(text).open(np.frombuffer(frame, np.uint8), size, dtype, KEY).write(out)
    return out


def good(text: str, size: int = SIZE, dtype: str = "float32") -> bytes:
    return encode(text, np.random.default_rng(0).standard_normal(size).astype(dtype)).tobytes()


GOOD = {text: good(text) for text in ALL}


@given(texts, st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_mutated_frame_is_refused_or_finite(text: str, changes: list[tuple[int, int]]) -> None:
    frame = bytearray(GOOD[text])
    for place, value in changes:
        frame[place % len(frame)] = value
    try:
        decoded = open_frame(text, bytes(frame))
    except BadMessage:
        return
    assert text == "none" or np.isfinite(decoded).all()


@given(texts, st.binary(max_size=3000), st.integers(1, 5000), st.sampled_from(["float32", "float64"]))
def test_garbage_is_refused_or_finite(text: str, frame: bytes, size: int, dtype: str) -> None:
    try:
        decoded = open_frame(text, frame, size, dtype)
    except BadMessage:
        return
    assert text == "none" or np.isfinite(decoded).all()


@pytest.mark.parametrize("text", ALL)
def test_another_length_is_refused(text: str) -> None:
    for frame in (b"", GOOD[text][:-1], GOOD[text] + b"\0", GOOD[text][:-8], GOOD[text] * 2):
        if text.startswith("topk") and (len(frame) - 8) % 6 == 0 and len(frame) >= 8:
            continue
        with pytest.raises(BadMessage, match=f"{len(frame)}"):
            open_frame(text, frame)


@pytest.mark.parametrize("text", ALL)
def test_checking_takes_no_more_memory_than_a_few_chunks(text: str) -> None:
    frame = np.frombuffer(b"\xff" * 50_000_000, np.uint8)
    with pytest.raises(BadMessage):
        tracemalloc.start()
        try:
            codec(text).open(frame, SIZE, "float32", KEY)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", ["int8", "onebit", "topk:0.05", "randomk:0.05", "powersgd:2"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_is(text: str, dtype: str, bad: float) -> None:
    frame = np.frombuffer(good(text, dtype=dtype), np.uint8)
    width = np.dtype(dtype).itemsize
    numbers = {
        "int8": -(-SIZE // 1024),
        "onebit": 2 * -(-SIZE // 4096),
        "topk:0.05": 3500,
        "randomk:0.05": 3500,
        "powersgd:2": frame.size // width,
    }[text]
    for place in (0, numbers // 2, numbers - 1):
        mutated = frame.copy()
        mutated[place * width : (place + 1) * width] = np.array([bad], dtype).view(np.uint8)
        with pytest.raises(BadMessage):
            open_frame(text, mutated.tobytes(), dtype=dtype)


@pytest.mark.parametrize(
    ("text", "bits"),
    [("fp16", 0x7C00), ("fp16", 0xFC00), ("fp16", 0x7E01), ("bf16", 0x7F80), ("bf16", 0xFF80), ("bf16", 0x7FC1)],
)
def test_a_half_that_is_not_finite_is_refused(text: str, bits: int) -> None:
    for place in (0, 99):
        halves = np.zeros(100, "<u2")
        halves[place] = bits
        with pytest.raises(BadMessage, match="NaN or Inf"):
            open_frame(text, halves.tobytes(), 100)


@pytest.mark.parametrize("scale", [0.0, -1.0, 3e36])
def test_int8_refuses_a_scale_out_of_range(scale: float) -> None:
    with pytest.raises(BadMessage, match="a scale that is not positive and finite"):
        open_frame("int8", struct.pack("<f2b", scale, 1, 2), 2)


def test_int8_refuses_the_code_that_no_encoder_writes() -> None:
    with pytest.raises(BadMessage, match="code -128"):
        open_frame("int8", struct.pack("<f2b", 1, -128, 2), 2)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (struct.pack("<2fB", 1, -1, 0), "levels out of order"),
        (struct.pack("<2fB", 3e38, 1e38, 0), "beyond the dtype's range"),
        (struct.pack("<2fB", 1, 1, 0b00010000), "bits behind the last element"),
        (struct.pack("<2fB", 1, 1, 0b00000001), "bits behind the last element"),
    ],
)
def test_onebit_refuses_levels_and_bits_that_cannot_be(frame: bytes, message: str) -> None:
    with pytest.raises(BadMessage, match=message):
        open_frame("onebit", frame, 3)


@pytest.mark.parametrize(
    ("counts", "lows", "message"),
    [
        ((2, 0), (5, 5), "do not increase"),
        ((2, 0), (6, 5), "do not increase"),
        ((0, 2), (5, 5), "do not increase"),
        ((1, 1), (9, SIZE - 65536), f"index {SIZE} of {SIZE}"),
        ((0, 2), (9, 65535), f"index {2 * 65536 - 1} of {SIZE}"),
        ((2, 1), (5, 6), "segments with more or less than 2 elements"),
        ((0, 1), (5, 6), "segments with more or less than 2 elements"),
        ((2**32 - 1, 3), (5, 6), "segments with more or less than 2 elements"),
    ],
)
def test_topk_refuses_indices_that_cannot_be(counts: tuple[int, int], lows: tuple[int, int], message: str) -> None:
    with pytest.raises(BadMessage, match=message):
        open_frame("topk:0.05", struct.pack("<2f2I2H", 1, 2, *counts, *lows))


def test_topk_refuses_more_elements_than_there_are() -> None:
    with pytest.raises(BadMessage, match="22 bytes are no selection of 2 elements"):
        open_frame("topk:1", struct.pack("<3fI3H", 1, 2, 3, 3, 0, 1, 2), 2)


def test_powersgd_refuses_a_product_that_could_overflow() -> None:
    with pytest.raises(BadMessage, match="beyond the dtype's range"):
        open_frame("powersgd:1", struct.pack("<3f 2f 4f", 7, 8, 9, 2e20, -1, 1, 2, 3, 4e18), 11)
