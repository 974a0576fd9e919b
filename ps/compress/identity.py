"""No compression: the vector's own bytes, so that the way through a codec can always be taken."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ps.compress.decoded import Decoded
from ps.compress.frame import buffer, demand_bytes
from ps.compress.key import Key
from ps.dataclass import dataclass
from ps.xp import Array, namespace


@dataclass(frozen=True, slots=True)
class Identity:
    """Send everything as it is. Frame: the elements, little-endian, in their own dtype."""

    slots: ClassVar[tuple[str, ...]] = ()
    momentum: ClassVar[float] = 0.0
    largest: ClassVar[float] = float("inf")

    def init(self, values: Array) -> dict[str, Array]:
        """Return {}."""
        return {}

    def max_bytes(self, size: int, dtype: DTypeLike) -> int:
        """Return the length of every frame."""
        return size * np.dtype(dtype).itemsize

    def encode(self, values: Array, key: Key, state: dict[str, Array], out: Array | None = None) -> Array:
        """Return the bytes of ``values``."""
        frame = buffer(values, values.nbytes, out)
        namespace(values).copyto(frame.view(values.dtype), values)
        return frame

    def open(self, frame: Array, size: int, dtype: DTypeLike, key: Key, *, trusted: bool = False) -> Decoded:
        """Check the length; NaN and Inf pass, as they do without compression."""
        kind = np.dtype(dtype)
        demand_bytes(frame, self.max_bytes(size, kind))
        values = frame.view(kind)

        def read(lo: int, hi: int, out: Array) -> Array:
            namespace(out).copyto(out, values[lo:hi])
            return out

        return Decoded(size, kind, read)
