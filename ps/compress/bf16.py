"""bfloat16: the upper half of a float32."""

from __future__ import annotations

from typing import ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from ps.compress.decoded import Decoded
from ps.compress.frame import are_within, blocks, buffer, clipped, demand, demand_bytes, expanded, rounded, scratch
from ps.compress.key import Key
from ps.dataclass import dataclass
from ps.xp import Array, is_host, namespace

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
LARGEST = float(np.array(0x7F7F0000, np.uint32).view(np.float32))


@dataclass(frozen=True, slots=True)
class BF16:
    """Round each element to bfloat16: float32's range with 8 bits of mantissa, to nearest, ties to even.

    What is beyond the largest finite one, 3.39e38, becomes it. float64 is rounded to float32 first. Nothing is
    remembered: Kalamkar et al., A study of BFLOAT16 for deep learning training, arXiv:1905.12322, 2019.

    Frame: 2 bytes for each element, little-endian: sign, 8 bits of exponent, 7 of mantissa.

    Measured with 10 M float32: 10 ms to encode, 6 ms to decode.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    momentum: ClassVar[float] = 0.0
    largest: ClassVar[float] = LARGEST

    def init(self, values: Array) -> dict[str, Array]:
        """Return {}."""
        return {}

    def max_bytes(self, size: int, dtype: DTypeLike) -> int:
        """Return the length of every frame."""
        return 2 * size

    def encode(self, values: Array, key: Key, state: dict[str, Array], out: Array | None = None) -> Array:
        """Return the upper halves."""
        xp = namespace(values)
        frame = buffer(values, 2 * values.size, out)
        halves = frame.view(np.uint16)
        if rounded(values, LARGEST, frame.view(BFLOAT16)):
            return frame
        single, rounding = scratch(values, np.float32, np.uint32)
        for lo, hi in blocks(values):
            x, r = single[: hi - lo], rounding[: hi - lo]
            clipped(values[lo:hi], LARGEST, x)
            bits = x.view(np.uint32)
            xp.right_shift(bits, 16, out=r)
            r &= 1  # half of the last place, less one if the number kept is even
            r += 0x7FFF
            bits += r
            xp.right_shift(bits, 16, out=bits)
            xp.copyto(halves[lo:hi], bits, casting="same_kind")
        return frame

    def open(self, frame: Array, size: int, dtype: DTypeLike, key: Key, *, trusted: bool = False) -> Decoded:
        """Check the length, and that there is no NaN or Inf."""
        kind = np.dtype(dtype)
        demand_bytes(frame, 2 * size)
        halves, half = frame.view(np.uint16), frame.view(BFLOAT16)
        if not trusted:
            fine = are_within(half, LARGEST)
            demand(not bool(((halves & 0x7F80) == 0x7F80).any()) if fine is None else fine, "NaN or Inf")

        def read(lo: int, hi: int, out: Array) -> Array:
            if expanded(half[lo:hi], out):
                return out
            xp = namespace(out)
            for a, b in blocks(out):
                x = halves[lo + a : lo + b].astype(np.uint32)
                xp.left_shift(x, 16, out=x)
                xp.copyto(out[a:b], x.view(np.float32))
            return out

        return Decoded(size, kind, read, half=half if kind == np.float32 and is_host(frame) else None)
