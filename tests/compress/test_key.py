"""Chance: the same bits for the same key on every machine and NumPy, others for any other key."""

from __future__ import annotations

import dataclasses

import numpy as np

from ps.compress import DOWN, Key
from ps.compress.key import EVERYBODY

MASK = (1 << 64) - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Return four words of Philox4x64-10, written from the paper."""
    x, k = list(counter), list(key)
    for _ in range(10):
        first, second = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
        x = [second >> 64 ^ x[1] ^ k[0], second & MASK, first >> 64 ^ x[3] ^ k[1], first & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return x


def test_words_are_philox_of_the_documented_counter_and_key() -> None:
    key = Key(seed=2**64 + 2**63 + 9, clock=417, chunk=31, rank=DOWN)
    purpose = int.from_bytes(b"compress", "big")
    expected = [word for block in (1, 2) for word in philox([block, 417, 31, DOWN], [2**63 + 9, purpose])]
    assert key.words(8).tolist() == expected
    assert key.words(3).tolist() == expected[:3]


def test_a_stream_read_in_parts_is_the_words() -> None:
    key = Key(1, 2, 3, 4)
    stream = key.stream()
    parts = [stream.random_raw(n) for n in (1, 6, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), key.words(12))


def test_every_part_of_a_key_counts() -> None:
    key = Key(1, 2, 3, 4)
    others = [dataclasses.replace(key, **{field.name: 9}) for field in dataclasses.fields(key)]
    assert len({tuple(k.words(4)) for k in (key, *others, key.shared())}) == 6


def test_a_shared_choice_depends_on_no_rank() -> None:
    assert Key(1, 2, 3, 4).shared() == Key(1, 2, 3, DOWN).shared() == Key(1, 2, 3, EVERYBODY)
