"""int8: right on average, and never more than a step off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.compress import Key
from support.vectors import codec, decode, encode


def test_the_mean_of_many_encodings_is_the_vector() -> None:
    x = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    x[1024:] *= 1e-4
    times = 4000
    total = np.zeros(x.size)
    for clock in range(times):
        key = Key(1, clock, 0, 0)
        total += decode("int8", encode("int8", x, key), x.size, key=key)
    step = np.repeat([np.abs(x[:1024]).max(), np.abs(x[1024:]).max()], [1024, 976]) / 127
    error = (total / times - x) / step
    # One rounding's variance is at most 1/4 step²: a z-score below 5 for each, and a mean near 0 over all.
    assert np.abs(error).max() < 5 * 0.5 / np.sqrt(times)
    assert abs(error.mean()) < 4 * 0.5 / np.sqrt(times * x.size)


def test_a_code_is_the_floor_of_the_scaled_element_plus_the_words() -> None:
    key = Key(3, 1, 4, 1)
    x = np.random.default_rng(0).standard_normal(70_001).astype(np.float32)
    frame = encode("int8", x, key)
    rows = -(-x.size // 1024)
    scale = np.repeat(frame[: 4 * rows].view(np.float32).astype(np.float64), 1024)[: x.size]
    noise = key.words(-(-x.size // 4)).view("<u2")[: x.size] / 65536
    exact = x / scale + noise
    codes = frame[4 * rows :].view(np.int8)
    off = codes != np.floor(exact)
    assert off.mean() < 1e-3  # float32's rounding, where the sum is all but whole
    assert np.abs(exact[off] - np.rint(exact[off])).max(initial=0) < 1e-4


def test_chance_decides_by_the_nearest_of_65536_parts_of_a_step() -> None:
    key = Key(0, 0, 0, 0)
    size = 1 << 20
    noise = key.words(size // 4).view("<u2")
    x = np.zeros(size, np.float32)
    x[::1024] = 127
    up, down = np.flatnonzero(noise == 65535), np.flatnonzero(noise == 0)
    x[up], x[down] = 0.75 / 65536, -0.75 / 65536
    assert up.size > 3 and down.size > 3
    codes = encode("int8", x, key)[-size:].view(np.int8)
    assert (codes[up] == 1).all() and (codes[down] == -1).all()


@pytest.mark.parametrize("largest", [1.9977895, 1.9271708, 1.9743308])  # divided by a 127th of itself: over 127
def test_no_chance_is_so_high_that_the_largest_wraps_around(largest: float) -> None:
    codes = encode("int8", np.full(1 << 20, largest, np.float32), Key(0, 0, 0, 0))[-(1 << 20) :].view(np.int8)
    assert set(np.unique(codes)) <= {126, 127}


@given(st.integers(0, 2**32), st.sampled_from(["float32", "float64"]), st.integers(-28, 30))
def test_the_largest_of_a_row_never_wraps_around(seed: int, dtype: str, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.choice([-1.0, 1.0], 4096) * (1 + rng.random() * 1e-3) * 10.0**exponent).astype(dtype)
    decoded = decode("int8", encode("int8", x, Key(seed, 0, 0, 0)), x.size, dtype, Key(seed, 0, 0, 0))
    assert (np.sign(decoded) == np.sign(x)).all()
    assert (np.abs(decoded) >= np.abs(x) * 0.99).all() and (np.abs(decoded) <= np.abs(x) * 1.001).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_denormals_round_without_bias_too(dtype: str) -> None:
    tiny = float(np.finfo(dtype).tiny)
    x = np.full(200_000, tiny * 2**22, dtype)
    decoded = decode("int8", encode("int8", x), x.size, dtype)
    assert set(np.unique(decoded)) <= {0.0, tiny * 2**24}
    assert (decoded > 0).mean() == pytest.approx(0.25, abs=0.01)


def test_zeros_stay_zeros() -> None:
    x = np.zeros(3000, np.float32)
    assert not decode("int8", encode("int8", x), 3000).any()
    assert codec("int8").slots == ()
