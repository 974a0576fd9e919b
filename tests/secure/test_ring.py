"""Promises of the encoding: a sum of integers is the sum, and what could wrap is refused with the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from ps.compress import Key
from ps.compress.randomk import RandomK
from ps.errors import ConfigError
from ps.protocol.layout import Layout
from ps.secure.frames import MaskedFrames, WrongSum
from ps.secure.ring import encoding_beside_noise, encoding_for
from ps.secure.rotation import rotate, unrotate

RNG = np.random.default_rng(3)
LAYOUT = Layout.of(
    {"w": np.zeros((50, 9), np.float32), "seen": np.zeros(7, np.float32), "count": np.zeros(3, np.int64)},
    {"seen": "buffer", "count": "counter"},
)
CHUNKS = LAYOUT.chunks(2, 1024)


def test_two_bytes_a_parameter_up_to_256_clients() -> None:
    assert encoding_for(16, 256, 1.0).bits == 8
    assert encoding_for(16, 100, 1.0).bits == 9
    assert encoding_for(32, 10_000, 1.0).bits == 18


@pytest.mark.parametrize(("ring", "clients", "bits"), [(16, 258, 8), (16, 100, 10), (32, 1000, 23)])
def test_what_could_wrap_is_refused_with_the_numbers(ring: int, clients: int, bits: int) -> None:
    with pytest.raises(ConfigError, match=rf"{clients} clients of {bits} bits add up to \d+, and {ring} bits hold \d+"):
        encoding_for(ring, clients, 1.0, bits)
    with pytest.raises(ConfigError, match="leave 3 bits"):
        encoding_for(16, 5000, 1.0)


@pytest.mark.parametrize("ring", [16, 32])
@pytest.mark.parametrize("clients", [3, 100, 256])
def test_the_largest_values_of_all_do_not_wrap(ring: int, clients: int) -> None:
    encoding = encoding_for(ring, clients, 0.5)
    for value in (-9.0, -0.5, 0.5, 9.0):
        total = np.zeros(8, encoding.dtype)
        for _ in range(clients):
            total += encoding.encode(np.full(8, value, np.float32), 1.0, RNG)[0]
        found = encoding.decode(total, clients, np.float64) / clients
        assert np.abs(found - np.clip(value, -0.5, 0.5)).max() <= encoding.step


def test_rounding_is_right_on_average() -> None:
    encoding = encoding_for(16, 100, 0.5)
    values = RNG.normal(0, 0.1, 300).astype(np.float32)
    total = np.zeros(300, np.float64)
    for _ in range(4000):
        total += encoding.decode(encoding.encode(values, 1.0, RNG)[0], 1, np.float64)
    assert np.abs(total / 4000 - np.clip(values, -0.5, 0.5)).max() < 5 * encoding.step / np.sqrt(4000)


def test_noise_of_either_sign_is_added_and_read_back() -> None:
    encoding = encoding_beside_noise(16, 10, 0.5)
    lowest, most = -(encoding.levels // 2), encoding.headroom // 10
    noise = [RNG.integers(-most, most, 50, endpoint=True) for _ in range(10)]
    noise[0][:] = noise[1][:] = -most
    total = np.zeros(50, encoding.dtype)
    for each in noise:
        total += encoding.wrap(lowest + each)
    wanted = 10 * lowest + np.sum(noise, axis=0)
    assert np.array_equal(encoding.decode(total, 10, np.float64), wanted * encoding.step)
    assert encoding.levels % 2 == 0 and 2 * encoding.headroom + 10 * encoding.levels <= 65535


@pytest.mark.parametrize("rotates", [False, True])
@pytest.mark.parametrize("codec", [None, RandomK(0.25)])
def test_a_sum_of_frames_is_the_weighted_mean_of_what_clients_have(rotates: bool, codec: RandomK | None) -> None:
    frames = MaskedFrames(encoding_for(32, 5, 4.0), codec, 1, CHUNKS, rotates=rotates)
    weights = [1.0, 0.5, 0.25, 1.0, 0.125]
    for chunk in CHUNKS:
        size = frames.elements(chunk)
        if chunk.kind == "counter":
            parts = [RNG.integers(-(2**62), 2**62, size) for _ in weights]
            wanted = np.sum(parts, axis=0)
        else:
            parts = [RNG.normal(0, 0.5, size).astype(np.float32) for _ in weights]
            wanted = np.average(parts, axis=0, weights=weights)
        total = np.zeros(frames.words(chunk), frames.encoding.dtype)
        for part, weight in zip(parts, weights, strict=True):
            total += frames.encode(chunk, part, weight, 3, RNG)
        found = frames.decode(chunk, total, 5, 3)
        values = found.values
        if codec and chunk.kind == "trainable":
            kept = codec.draw(chunk.size, Key(1, 3, chunk.index, 0))
            assert np.count_nonzero(np.delete(values, kept)) == 0
            values = values[kept]
        if chunk.kind == "counter":
            assert np.array_equal(values, wanted)
        else:
            assert np.abs(values - wanted).max() < 1e-4
        assert found.clipped == 0


def test_the_share_of_clipped_values_is_summed() -> None:
    frames = MaskedFrames(encoding_for(16, 3, 0.1), None, 1, CHUNKS)
    chunk = CHUNKS[0]
    values = np.zeros(chunk.size, np.float32)
    values[:20] = 1.0
    total = sum((frames.encode(chunk, values, 1.0, 0, RNG) for _ in range(3)), np.zeros(frames.words(chunk), np.uint16))
    found = frames.decode(chunk, total, 3, 0)
    assert (found.clipped, found.elements) == (60, 3 * chunk.size)


def test_one_wrong_context_is_found_in_the_sum() -> None:
    encoding = encoding_for(16, 3, 0.1)
    frames = MaskedFrames(encoding, None, 1, CHUNKS)
    chunk = CHUNKS[0]
    values = np.zeros(chunk.size, np.float32)
    others = [
        (MaskedFrames(encoding, None, 2, CHUNKS), 5),
        (MaskedFrames(encoding_for(16, 3, 0.2), None, 1, CHUNKS), 5),
        (MaskedFrames(encoding, None, 1, CHUNKS, rotates=True), 5),
        (frames, 4),
    ]
    for other, round in others:
        total = frames.encode(chunk, values, 1.0, 5, RNG) + frames.encode(chunk, values, 1.0, 5, RNG)
        total += other.encode(chunk, values, 1.0, round, RNG)
        with pytest.raises(WrongSum, match="another seed, round, codec or mask"):
            frames.decode(chunk, total, 3, 5)


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 40_000])
def test_a_rotation_is_undone_and_keeps_lengths(size: int) -> None:
    values = RNG.normal(size=size)
    turned = rotate(values, Key(1, 2, 3, 4))
    assert np.allclose(unrotate(turned, Key(1, 2, 3, 9)), values)
    assert np.isclose(np.linalg.norm(turned), np.linalg.norm(values))


def test_a_rotation_spreads_one_large_element() -> None:
    values = np.zeros(1024)
    values[7] = 32.0
    assert np.abs(rotate(values, Key(1, 2, 3, 4))).max() < 1.001
