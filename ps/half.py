"""Half precision: parameters of two bytes an element, which are copies of float32 masters that only the servers have.

Gradients and weights travel, and lie in a worker's memory, as they are; optimizers work on the masters, which small
steps would be lost without (Micikevicius et al., Mixed precision training, ICLR 2018). Nothing makes a master of its
copy again. NumPy knows bfloat16 once ``ml_dtypes`` is imported, which this module does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes  # noqa: F401
import numpy as np

from ps import native
from ps.xp import Array, HostArray

HALVES = ("float16", "bfloat16")
SINGLE = np.dtype(np.float32)


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype of parameters is one of half precision."""
    return dtype.itemsize == 2


def worked_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which parameters of a dtype are updated."""
    return SINGLE if is_half(dtype) else dtype


LARGEST = 65504.0
"""The largest finite float16."""
BLOCK = 1 << 16
"""Elements that are converted at once, in cache."""
_LEAST_NORMAL = 2.0**-14
_GRID = 13 << 23  # in a float32's exponent: half has 13 bits less of mantissa
_OFFSET = 126 << 23  # 112 from a half's exponent to a float32's, the grid's 13, and 1 for a half's leading bit
_SIGN_AND_SHIFTED = np.array(0x8FFFE000, np.uint32).view(np.int32)[()]


def widen(half: HostArray, out: HostArray) -> None:
    """Copy numbers of half precision, (n,), to ``out``, (n,) float32: the same numbers.

    float16's bits, shifted to a float32's place, are its numbers over 2^112, subnormal ones included; so this is four
    times as fast as NumPy's conversion, and twenty times with the small numbers that gradients are.
    """
    compiled = native.kernels()
    if compiled is not None and compiled.widen(native.raw(half), out) is not None:
        return
    if half.dtype != np.float16:
        np.copyto(out, half)
        return
    bits = out.view(np.int32)
    np.copyto(bits, half.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _SIGN_AND_SHIFTED, out=bits)
    np.multiply(out, np.float32(2.0**112), out=out)
    if out.size and (out.max() > LARGEST or out.min() < -LARGEST):  # Inf or NaN, whose exponent is no number's
        np.copyto(out, half)


def narrow(single: HostArray, out: HostArray) -> None:
    """Copy float32 numbers, (n,), to ``out``, (n,) in half precision: to nearest, ties to even.

    What float16 has no room for becomes Inf.
    """
    compiled = native.kernels()
    if compiled is not None and compiled.narrow(single, native.raw(out), None) is not None:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        if out.dtype != np.float16:
            np.copyto(out, single, casting="unsafe")
            return
        x, e = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint32)
        for lo in range(0, single.size, BLOCK):
            part, place = single[lo : lo + BLOCK], out[lo : lo + BLOCK]
            if not (part.min() >= -LARGEST and part.max() <= LARGEST):
                np.copyto(place, part, casting="unsafe")
                continue
            np.copyto(x[: part.size], part)
            round_to_half(np, x[: part.size], e[: part.size])
            np.copyto(place.view(np.uint16), x[: part.size].view(np.uint32), casting="same_kind")


def round_to_half(xp: Any, x: Array, e: Array) -> None:
    """Replace each float32 in ``x`` by its half's bits, in the low 16 and 0 above; ``e``: uint32 scratch, as long.

    To nearest, ties to even, subnormal halves included; ``x`` is within ±65504. Adding 2^13 times a number's power of
    two leaves as the sum's last bits what half has room for, rounded by the processor.
    """
    bits = x.view(np.uint32)
    power = e.view(np.float32)
    xp.right_shift(bits, 16, out=e)
    sign = e & 0x8000
    bits &= 0x7FFFFFFF
    xp.bitwise_and(bits, 0x7F800000, out=e)
    xp.clip(power, _LEAST_NORMAL, LARGEST, out=power)
    e += _GRID
    x += power
    bits -= e
    e -= _OFFSET
    xp.right_shift(e, 13, out=e)
    bits += e
    bits |= sign


class Widened:
    """A vector of half precision, (n,), that is read as float32, a part at a time: no more than that is made."""

    def __init__(self, half: HostArray) -> None:
        self._half = half
        self.size = half.size
        self.dtype = SINGLE

    def __getitem__(self, part: slice) -> HostArray:
        found = np.empty(part.stop - part.start, SINGLE)
        widen(self._half[part], found)
        return found

    def read(self, lo: int, hi: int, out: HostArray) -> HostArray:
        """Return elements ``lo`` to ``hi`` in ``out``, float32."""
        widen(self._half[lo:hi], out)
        return out

    def whole(self) -> HostArray:
        """Return all of it, as a new array."""
        return self[0 : self.size]


def parts_of(half: HostArray) -> Iterator[HostArray]:
    """Yield a vector of half precision as float32, part by part, in memory that the next part takes."""
    room = np.empty(min(BLOCK, half.size), SINGLE)
    for lo in range(0, half.size, BLOCK):
        part = half[lo : lo + BLOCK]
        widen(part, room[: part.size])
        yield room[: part.size]
