"""What every codec keeps to, for vectors of any size and magnitude."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.compress import CODECS, Key, Uplink
from ps.compress.frame import BLOCK
from ps.errors import UsageError
from ps.optim.limit import limit_of
from support.vectors import ALL, KEY, codec, decode, encode, vectors

texts = st.sampled_from([*ALL, "topk:1", "randomk:1", "powersgd:1,columns=17", "powersgd:100"])


def error_bound(text: str, x: np.ndarray) -> np.ndarray:
    """Return for each element how far off the decoded one may be."""
    name = text.partition(":")[0]
    magnitude, limits = np.abs(x.astype(np.float64)), np.finfo(x.dtype)
    if name == "fp16":
        return np.where(magnitude > 65504, magnitude - 65504, magnitude * 2**-11 * 1.001 + 2**-25 * 1.001)
    if name == "bf16":
        return magnitude * 2**-8 * 1.001 + 2.0**-133 * 0.51
    if name == "int8":
        rows = [magnitude[i : i + 1024].max() for i in range(0, x.size, 1024)]
        step = np.maximum(np.array(rows) / 127, float(limits.tiny) * 2.0**24)
        return np.repeat(step, 1024)[: x.size] * 1.001
    if name == "onebit":
        rows = [magnitude[i : i + 4096].max() for i in range(0, x.size, 4096)]
        return np.repeat(rows, 4096)[: x.size] * 1.001
    if name in ("topk", "randomk"):
        return magnitude
    if name == "powersgd":
        norm = np.sqrt(np.square(magnitude / max(magnitude.max(), 1e-300)).sum()) * magnitude.max()
        return np.full(x.size, norm * 1.01 + 1000 * float(limits.smallest_subnormal))
    return np.zeros(x.size)


@given(texts, vectors())
def test_what_is_decoded_is_as_close_as_the_codec_says(text: str, x: np.ndarray) -> None:
    before = x.tobytes()
    frame = encode(text, x)
    assert x.tobytes() == before
    assert frame.dtype == np.uint8 and frame.ndim == 1 and frame.size <= codec(text).max_bytes(x.size, x.dtype)
    decoded = decode(text, frame, x.size, str(x.dtype))
    assert np.isfinite(decoded).all()
    error = np.abs(decoded.astype(np.float64) - x.astype(np.float64))
    assert (error <= error_bound(text, x)).all()


@given(texts, vectors(), st.data())
def test_any_range_reads_as_the_whole_does(text: str, x: np.ndarray, data: st.DataObject) -> None:
    opened = codec(text).open(encode(text, x), x.size, x.dtype, KEY)
    whole = np.empty_like(x)
    opened.write(whole)
    for _ in range(3):
        lo = data.draw(st.integers(0, x.size - 1))
        hi = data.draw(st.integers(lo + 1, x.size))
        out = np.full(hi - lo, np.nan, x.dtype)
        assert opened.read(lo, hi, out) is out
        assert out.tobytes() == whole[lo:hi].tobytes()


@given(texts, vectors())
def test_adding_and_taking_is_adding_and_taking_what_is_written(text: str, x: np.ndarray) -> None:
    opened = codec(text).open(encode(text, x), x.size, x.dtype, KEY)
    decoded = np.empty_like(x)
    opened.write(decoded)
    base = np.linspace(-1, 1, x.size).astype(x.dtype)
    more, less = base.copy(), base.copy()
    opened.add_to(more)
    opened.take_from(less)
    np.testing.assert_array_equal(more, base + decoded)
    np.testing.assert_array_equal(less, base - decoded)


@given(texts, vectors())
def test_the_same_key_gives_the_same_bytes_in_any_buffer(text: str, x: np.ndarray) -> None:
    frame = encode(text, x)
    buffer = np.full(codec(text).max_bytes(x.size, x.dtype) + 3, 255, np.uint8)
    again = codec(text).encode(x, KEY, codec(text).init(x), buffer)
    assert again.base is buffer and again.tobytes() == frame.tobytes()
    assert (buffer[again.size :] == 255).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", ALL)
def test_blocks_join_without_a_seam(text: str, dtype: str) -> None:
    size = 2 * BLOCK + 1027
    x = np.random.default_rng(0).standard_normal(size).astype(dtype)
    assert (np.abs(decode(text, encode(text, x), size, dtype) - x) <= error_bound(text, x)).all()


@pytest.mark.parametrize("text", ["int8", "randomk:0.05"])
def test_chance_depends_on_the_key(text: str) -> None:
    x = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    frames = {encode(text, x, Key(seed, clock, chunk, 0)).tobytes() for seed, clock, chunk in np.ndindex(2, 2, 2)}
    assert len(frames) == 8


@pytest.mark.parametrize("text", [text for text in ALL if not text.startswith("int8")])
def test_only_int8_depends_on_the_rank(text: str) -> None:
    x = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    assert encode(text, x, Key(0, 1, 2, 3)).tobytes() == encode(text, x, Key(0, 1, 2, 4)).tobytes()
    assert encode("int8", x, Key(0, 1, 2, 3)).tobytes() != encode("int8", x, Key(0, 1, 2, 4)).tobytes()


@pytest.mark.parametrize("text", ALL)
def test_nan_and_inf_neither_crash_nor_hang(text: str) -> None:
    for poison in ([np.nan], [np.inf, -np.inf], [np.nan] * 4000):
        x = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
        x[: len(poison)] = poison
        with np.errstate(all="ignore"):
            frame = encode(text, x)
        assert frame.size <= codec(text).max_bytes(x.size, x.dtype)


@pytest.mark.parametrize("text", ALL)
def test_a_buffer_that_cannot_hold_the_frame_is_refused(text: str) -> None:
    x = np.ones(100, np.float32)
    need = codec(text).max_bytes(100, "float32")
    for out in (np.empty(need - 1, np.uint8), np.empty(2 * need, np.int8), np.empty((need, 2), np.uint8)):
        with pytest.raises(UsageError, match=f"a frame of {need} bytes does not fit"):
            codec(text).encode(x, KEY, codec(text).init(x), out)


def test_an_array_that_does_not_fit_is_refused() -> None:
    opened = codec("int8").open(encode("int8", np.ones(10, np.float32)), 10, "float32", KEY)
    for wrong in (np.zeros(9, np.float32), np.zeros(10), np.zeros((10, 1), np.float32)):
        for method in (opened.write, opened.add_to, opened.take_from):
            with pytest.raises(UsageError, match=r"expected an array of float32\[10\]"):
                method(wrong)


@pytest.mark.parametrize("text", ALL)
def test_a_received_frame_may_lie_at_any_address_and_be_read_only(text: str) -> None:
    x = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    frame = encode(text, x)
    moved = np.frombuffer(b"!" + frame.tobytes(), np.uint8)[1:]
    assert decode(text, moved, x.size).tobytes() == decode(text, frame, x.size).tobytes()


def test_the_spec_in_the_docstring_builds_a_codec() -> None:
    assert CODECS.parse("topk:0.01").build().slots == ("residual", "velocity")


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_gradients_there_may_be_go_through_whatever_is_remembered_of_them(name: str, dtype: str) -> None:
    uplink = Uplink(CODECS.parse(name))
    limit = limit_of(np.dtype(dtype))
    x = np.where(np.arange(5000) % 3, limit, -limit).astype(dtype)
    state = uplink.init(x)
    for clock in range(5):
        key = Key(0, clock, 0, 0)
        decoded = np.empty_like(x)
        uplink.codec.open(uplink.encode(x, state, key), x.size, x.dtype, key).write(decoded)
        for array in (decoded, *state.values()):
            assert np.isfinite(array).all()
