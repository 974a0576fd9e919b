"""Uplink: nothing that a codec with memory leaves out is ever lost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.compress import CODECS, Key, Uplink
from ps.errors import StateError, UsageError
from support.vectors import ALL, KEY, REMEMBERING, decode, vectors


def uplink(text: str) -> Uplink:
    return Uplink(CODECS.parse(text))


def key(clock: int) -> Key:
    return dataclasses.replace(KEY, clock=clock)


@given(st.sampled_from([text for text in REMEMBERING if "momentum" not in text]), vectors(), st.integers(1, 6))
def test_what_was_sent_and_what_is_remembered_is_what_came_in(text: str, x: np.ndarray, steps: int) -> None:
    up = uplink(text)
    state = up.init(x)
    rng = np.random.default_rng(0)
    total, sent, largest = np.zeros(x.size), np.zeros(x.size), 0.0
    for clock in range(steps):
        g = (x * x.dtype.type(rng.uniform(-1, 1))).astype(x.dtype)
        total += g
        decoded = decode(text, up.encode(g, state, key(clock)), x.size, str(x.dtype), key(clock))
        sent += decoded
        largest = max(
            largest, float(np.abs(decoded).max()), float(np.abs(g).max()), float(np.abs(state["residual"]).max())
        )
    eps = float(np.finfo(x.dtype).eps)
    np.testing.assert_allclose(sent + state["residual"], total, rtol=0, atol=4 * steps * eps * largest)


@pytest.mark.parametrize("text", ALL)
def test_a_gradient_is_only_read(text: str) -> None:
    x = np.frombuffer(np.random.default_rng(0).standard_normal(3000).astype(np.float32).tobytes(), np.float32)
    up = uplink(text)
    state = up.init(x)
    for clock in range(3):
        up.encode(x, state, key(clock))


@pytest.mark.parametrize("text", [*ALL, *REMEMBERING])
def test_the_state_is_arrays_and_continues_from_a_copy(text: str) -> None:
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(3000).astype(np.float32) for _ in range(6)]
    up, state = uplink(text), uplink(text).init(gradients[0])
    for clock in range(3):
        up.encode(gradients[clock], state, key(clock))
    saved = {name: array.copy() for name, array in state.items()}
    assert all(isinstance(array, np.ndarray) for array in saved.values())
    other = uplink(text)
    for clock in range(3, 6):
        frame = up.encode(gradients[clock], state, key(clock))
        assert other.encode(gradients[clock], saved, key(clock)).tobytes() == frame.tobytes()
    assert all(saved[name].tobytes() == array.tobytes() for name, array in state.items())


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("none", set()),
        ("int8", set()),
        ("onebit", {"residual"}),
        ("topk:0.1", {"residual"}),
        ("topk:0.1,momentum=0.5", {"residual", "velocity"}),
        ("powersgd:2", {"residual", "basis"}),
    ],
)
def test_the_state_holds_what_the_paper_keeps(text: str, slots: set[str]) -> None:
    state = uplink(text).init(np.ones(1000, np.float64))
    assert set(state) == slots
    assert all(array.dtype == np.float64 and not array.any() for array in state.values())


@pytest.mark.parametrize("text", ALL)
def test_the_frame_goes_into_the_callers_buffer(text: str) -> None:
    x = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    up = uplink(text)
    buffer = np.empty(up.codec.max_bytes(x.size, x.dtype), np.uint8)
    frame = up.encode(x, up.init(x), KEY, buffer)
    assert frame.base is buffer
    assert frame.tobytes() == up.encode(x, up.init(x), KEY).tobytes()


@pytest.mark.parametrize("text", [text for text in REMEMBERING if "momentum" not in text])
def test_a_frame_given_back_comes_again(text: str) -> None:
    x = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    up = uplink(text)
    state = up.init(x)
    up.give_back(up.encode(x, state, KEY), state, KEY)
    np.testing.assert_allclose(state["residual"], x, atol=1e-5)


def test_a_codec_without_memory_takes_nothing_back() -> None:
    x = np.ones(10, np.float32)
    up = uplink("int8")
    with pytest.raises(StateError, match="int8 remembers nothing"):
        up.give_back(up.encode(x, {}, KEY), {}, KEY)


@pytest.mark.parametrize("text", [*ALL, *REMEMBERING])
def test_nan_and_inf_do_not_crash(text: str) -> None:
    up = uplink(text)
    state = up.init(np.zeros(3000, np.float32))
    for clock, poison in enumerate((np.nan, np.inf, -np.inf)):
        up.encode(np.full(3000, poison, np.float32), state, key(clock))


def test_what_cannot_be_a_chunk_is_refused_before_anything_changes() -> None:
    up = uplink("onebit")
    state = up.init(np.zeros(10, np.float32))
    for wrong in (np.zeros(10, np.float16), np.zeros((5, 2), np.float32), np.empty(0, np.float32)):
        with pytest.raises(UsageError, match="a chunk is float32 or float64 and not empty"):
            up.encode(wrong, state, KEY)
    for wrong in (np.ones(9, np.float32), np.ones(10)):
        with pytest.raises(UsageError, match=r"compression state 'residual' is float32\[10\]"):
            up.encode(wrong, state, KEY)
    with pytest.raises(UsageError, match="does not fit"):
        up.encode(np.ones(10, np.float32), state, KEY, np.empty(9, np.uint8))
    assert not state["residual"].any()
