"""Half precision: parameters of two bytes an element, which are copies of float32 masters that only the servers have.

Gradients and weights travel, and lie in a worker's memory, as they are; optimizers work on the masters, which small
steps would be lost without (Micikevicius et al., Mixed precision training, ICLR 2018). Nothing makes a master of its
copy again. NumPy knows bfloat16 once ``ml_dtypes`` is imported, which this module does.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes  # noqa: F401
import numpy as np

from ps.xp import HostArray

HALVES = ("float16", "bfloat16")
SINGLE = np.dtype(np.float32)


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype of parameters is one of half precision."""
    return dtype.name in HALVES


def worked_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which parameters of a dtype are updated."""
    return SINGLE if is_half(dtype) else dtype


class Widened:
    """A vector of half precision, (n,), that is read as float32, a part at a time: no more than that is made."""

    def __init__(self, half: HostArray) -> None:
        self._half = half
        self.size = half.size
        self.dtype = SINGLE

    def __getitem__(self, part: slice) -> HostArray:
        return self._half[part].astype(SINGLE)

    def read(self, lo: int, hi: int, out: HostArray) -> HostArray:
        """Return elements ``lo`` to ``hi`` in ``out``, float32."""
        np.copyto(out, self._half[lo:hi])
        return out

    def whole(self) -> HostArray:
        """Return all of it, as a new array."""
        return self._half.astype(SINGLE)
