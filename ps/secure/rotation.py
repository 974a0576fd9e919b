"""Rotation: a randomised Hadamard transform, after which no element of a vector is much larger than the others.

Suresh et al., Distributed mean estimation with limited communication, ICML 2017. Linear and orthogonal, so that the sum
of rotated vectors is the rotated sum. A vector is cut into blocks whose lengths are powers of two: nothing is padded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ps.compress import Key
from ps.xp import HostArray

MOST = 1 << 14
"""Elements of a block, at most."""


def rotate(values: HostArray, key: Key) -> HostArray:
    """Return a vector rotated as all members of a job do it for this key."""
    out = values * _signs(values, key)
    for block in _blocks(out):
        _transform(block)
    return out


def unrotate(values: HostArray, key: Key) -> HostArray:
    """Return the vector that ``rotate`` made this of."""
    out = values.copy()
    for block in _blocks(out):
        _transform(block)
    out *= _signs(values, key)
    return out


def _signs(values: HostArray, key: Key) -> HostArray:
    bits = np.unpackbits(key.shared().words(-(-values.size // 64)).view(np.uint8), count=values.size)
    return np.where(bits, -1, 1).astype(values.dtype)


def _blocks(vector: HostArray) -> Iterator[HostArray]:
    at = 0
    while at < vector.size:
        size = min(MOST, 1 << ((vector.size - at).bit_length() - 1))
        yield vector[at : at + size]
        at += size


def _transform(block: HostArray) -> None:
    """Hadamard's transform over the square root of the length, in place: its own inverse."""
    width = 1
    while width < block.size:
        pairs = block.reshape(-1, 2, width)
        low, high = pairs[:, 0].copy(), pairs[:, 1].copy()
        pairs[:, 0], pairs[:, 1] = low + high, low - high
        width *= 2
    block /= block.dtype.type(np.sqrt(block.size))
