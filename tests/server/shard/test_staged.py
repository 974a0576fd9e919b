"""Promises of what is staged: NaN and Inf are found whatever the form, the norm is right, and rubbish is not kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ps.compress import CODECS, Key
from ps.server.shard.staged import Staged, square

KEY = Key(0, 0, 0, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 17, -1])
def test_one_bad_element_anywhere_is_found_and_nothing_of_it_is_kept(dtype: str, bad: float, place: int) -> None:
    part = np.ones(1000, dtype)
    part[place] = bad
    staged = Staged(0.0)
    staged.take(0, np.ones(10, dtype), "trainable", 40)
    staged.take(1, part, "trainable", 4000)
    staged.take(2, np.ones(10, dtype), "trainable", 40)
    assert staged.wrong == "nan" and not staged.parts and staged.nbytes == 0
    assert sorted(staged.squares) == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_is_that_of_the_vector(dtype: str) -> None:
    part = np.random.default_rng(0).normal(size=70_000).astype(dtype)
    assert square(part) == pytest.approx(float(np.sum(part.astype(np.float64) ** 2)), rel=1e-5)


def test_a_sum_of_squares_too_large_for_float32_is_no_error() -> None:
    assert square(np.full(1 << 21, 2.0**54, np.float32)) == pytest.approx(2.0**129, rel=1e-6)


@pytest.mark.parametrize("part", [np.full(4, 1e20, np.float32), np.full(4, -1e200)])
def test_a_delta_that_would_overflow_an_optimizer_is_as_bad_as_nan(part: np.ndarray) -> None:
    staged = Staged(0.0)
    staged.take(0, part, "trainable", part.nbytes)
    assert staged.wrong == "nan" and not staged.parts


def test_counters_are_no_part_of_the_norm() -> None:
    staged = Staged(0.0)
    staged.take(0, np.full(3, 10**12), "counter", 24)
    staged.take(1, np.full(3, 2.0), "buffer", 24)
    assert staged.norm_squared == 12.0


@pytest.mark.parametrize("codec", ["topk:0.1", "int8", "fp16"])
def test_a_compressed_part_has_the_norm_of_what_it_stands_for(codec: str) -> None:
    built = CODECS.parse(codec).build()
    vector = np.random.default_rng(1).normal(size=40_000).astype(np.float32)
    frame = np.frombuffer(built.encode(vector, KEY, built.init(vector)).tobytes(), np.uint8)
    part = built.open(frame, vector.size, vector.dtype, KEY)
    dense = np.empty_like(vector)
    part.write(dense)
    assert square(part) == pytest.approx(float(np.sum(dense.astype(np.float64) ** 2)), rel=1e-5)
    staged = Staged(0.0)
    staged.take(0, part, "trainable", frame.nbytes)
    assert staged.nbytes >= frame.nbytes and staged.parts[0] is part
