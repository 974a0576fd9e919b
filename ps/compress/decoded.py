"""Decoded: a frame that was checked, as the vector it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ps.compress.frame import blocks, like, scratch
from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.xp import Array, namespace


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A vector of ``size`` elements of ``dtype`` that is worked out where and when it is read.

    ``read(lo, hi, out)`` writes elements lo to hi into ``out`` and returns it, as ``ps.optim.apply`` wants its
    gradient: any range, in any order, from any thread. Each element is the same bits whatever the range, on every
    machine: nothing is added up in an order that a library might choose. The frame must stay as it is meanwhile.
    """

    size: int
    dtype: np.dtype[Any]
    read: Callable[[int, int, Array], Array]
    sparse: tuple[Array, Array] | None = None
    """Increasing indices and their values, when all others are 0; int64 and ``dtype``."""
    half: Array | None = None
    """The very numbers in half precision, (size,), where the frame is nothing but these and ``dtype`` is float32."""

    def write(self, out: Array) -> None:
        """Overwrite ``out`` with the vector."""
        self._check(out)
        for lo, hi in blocks(out):
            self.read(lo, hi, out[lo:hi])

    def add_to(self, out: Array) -> None:
        """Add the vector to ``out``, which is what every replica does to stay bit-identical."""
        self._check(out)
        if self.sparse is not None:
            indices, values = self.sparse
            out[indices] += values
            return
        (part,) = scratch(out, self.dtype)
        for lo, hi in blocks(out):
            out[lo:hi] += self.read(lo, hi, part[: hi - lo])

    def take_from(self, out: Array) -> None:
        """Subtract the vector from ``out``: what is left is what the frame does not say."""
        self._check(out)
        if self.sparse is not None:
            indices, values = self.sparse
            out[indices] -= values
            return
        (part,) = scratch(out, self.dtype)
        for lo, hi in blocks(out):
            out[lo:hi] -= self.read(lo, hi, part[: hi - lo])

    def _check(self, out: Array) -> None:
        if out.shape != (self.size,) or out.dtype != self.dtype:
            raise UsageError(f"expected an array of {self.dtype}[{self.size}], not {out.dtype}{list(out.shape)}")


def sparse(size: int, indices: Array, values: Array) -> Decoded:
    """Return the vector with ``values`` at increasing ``indices`` and 0 elsewhere."""
    xp = namespace(indices, values)

    def read(lo: int, hi: int, out: Array) -> Array:
        first, last = (int(i) for i in xp.searchsorted(indices, like(indices, np.array([lo, hi]))))
        out.fill(0)
        out[indices[first:last] - lo] = values[first:last]
        return out

    return Decoded(size, values.dtype, read, (indices, values))
