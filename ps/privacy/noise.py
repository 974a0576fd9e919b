"""Noise: Gaussian noise in whole steps of a grid, out of a cryptographic generator that the operating system keys.

The generator is SHAKE-256, an extendable-output function: what it gives for a key that nobody knows cannot be told from
chance. A key is 32 bytes of ``os.urandom``, made where the noise is needed, used for one thing, and kept nowhere.

Normal numbers come of pairs of 64-bit numbers by Box and Muller, in double precision. Rounded to a grid of some 2^24
steps in a standard deviation each step's probability is right to about 1e-8 of itself, and beyond 9.5 standard
deviations there is nothing, where 2^-64 should be.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable

import numpy as np

from ps.xp import HostArray

KEY_BYTES = 32
BLOCK = 1 << 15
"""Numbers that are drawn at once: their scratch memory stays in the cache."""

Entropy = Callable[[int], bytes]
"""``entropy(n)`` returns n bytes that nobody can guess, as ``os.urandom`` does."""


def new_key(entropy: Entropy = os.urandom) -> bytes:
    """Return a key of which nobody knows anything."""
    key = entropy(KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    return key


def draw(key: bytes, stream: int, size: int, deviation: float) -> HostArray:
    """Return ``size`` whole steps of noise, int64: a Gaussian of this standard deviation, in steps, rounded.

    The same key and stream give the same numbers; no two streams of a key have anything in common.
    """
    out = np.empty(size, np.int64)
    for number, lo in enumerate(range(0, size, BLOCK)):
        hi = min(lo + BLOCK, size)
        normal = _normal(key, stream, number, hi - lo)
        out[lo:hi] = np.rint(np.multiply(normal, deviation, out=normal), out=normal)
    return out


def draw_normal(key: bytes, stream: int, size: int) -> HostArray:
    """Return ``size`` standard normal numbers, float64: those that ``draw`` multiplies and rounds."""
    out = np.empty(size)
    for number, lo in enumerate(range(0, size, BLOCK)):
        hi = min(lo + BLOCK, size)
        out[lo:hi] = _normal(key, stream, number, hi - lo)
    return out


def _normal(key: bytes, stream: int, block: int, size: int) -> HostArray:
    """Return standard normal numbers, float64."""
    pairs = (size + 1) // 2
    label = stream.to_bytes(8, "little") + block.to_bytes(8, "little")
    bits = np.frombuffer(hashlib.shake_256(key + label).digest(16 * pairs), np.uint64)
    radius = np.sqrt(-2.0 * np.log((bits[:pairs].astype(np.float64) + 0.5) * 2.0**-64))
    angle = bits[pairs:].astype(np.float64) * (2.0 * math.pi * 2.0**-64)
    out = np.empty(2 * pairs)
    np.multiply(radius, np.cos(angle), out=out[:pairs])
    np.multiply(radius, np.sin(angle), out=out[pairs:])
    return out[:size]
