"""Downlink: the server's shadow and the workers' weights are the same bits, and never far from the truth."""

from __future__ import annotations

import numpy as np
import pytest

from ps.compress import CODECS, DOWN, Downlink, Key
from ps.errors import BadMessage, UsageError
from support.vectors import ALL


def key(version: int) -> Key:
    return Key(seed=1, clock=version, chunk=2, rank=DOWN)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", [*ALL, "topk:0.02,momentum=0.9,warmup=9"])
def test_shadow_and_replicas_stay_bit_identical(text: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(70_001).astype(dtype)
    server, worker = Downlink(CODECS.parse(text)), Downlink(CODECS.parse(text))
    shadow, state = weights.copy(), server.init(weights)
    replicas = [weights.copy(), weights.copy()]
    for version in range(25):
        weights += (rng.standard_normal(weights.size) * 0.1).astype(dtype)
        frame = server.encode(weights, shadow, state, key(version))
        for replica in replicas:
            worker.follow(np.frombuffer(frame.tobytes(), np.uint8), replica, key(version))
            assert replica.tobytes() == shadow.tobytes()


@pytest.mark.parametrize("text", [*ALL, "topk:0.02,momentum=0.9"])
def test_once_the_weights_rest_the_shadow_comes_to_them(text: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(3000).astype(np.float32)
    shadow = np.zeros_like(weights)
    down = Downlink(CODECS.parse(text))
    state = down.init(weights)
    for version in range(300):
        down.encode(weights, shadow, state, key(version))
    assert np.linalg.norm(weights - shadow) < 0.05 * np.linalg.norm(weights)


def test_the_weights_are_only_read_and_the_frame_goes_into_the_callers_buffer() -> None:
    weights = np.frombuffer(np.arange(100, dtype=np.float32).tobytes(), np.float32)
    down = Downlink(CODECS.parse("int8"))
    buffer = np.empty(200, np.uint8)
    frame = down.encode(weights, np.zeros(100, np.float32), down.init(weights), key(0), buffer)
    assert frame.base is buffer and frame.size == 104


def test_a_bad_frame_changes_nothing() -> None:
    replica = np.ones(100, np.float32)
    with pytest.raises(BadMessage, match="expected 104 bytes, got 103"):
        Downlink(CODECS.parse("int8")).follow(np.zeros(103, np.uint8), replica, key(0))
    with pytest.raises(BadMessage, match="NaN"):
        Downlink(CODECS.parse("fp16")).follow(np.full(200, 255, np.uint8), replica, key(0))
    assert (replica == 1).all()


def test_a_shadow_of_another_shape_is_refused() -> None:
    weights = np.zeros(10, np.float32)
    down = Downlink(CODECS.parse("fp16"))
    for shadow in (np.zeros(9, np.float32), np.zeros(10)):
        with pytest.raises(UsageError, match="the shadow is"):
            down.encode(weights, shadow, {}, key(0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("text", ALL)
def test_weights_that_have_diverged_go_over_whole(text: str, bad: float) -> None:
    down = Downlink(CODECS.parse(text))
    weights, shadow = np.full(3000, 2, np.float32), np.ones(3000, np.float32)
    weights[1700] = bad
    assert down.encode(weights, shadow, down.init(weights), key(0)) is None
    assert (shadow == 1).all()
