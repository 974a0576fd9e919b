"""A few elements that everybody draws alike."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ps.compress.decoded import Decoded, sparse
from ps.compress.frame import buffer, demand_bytes, demand_finite, like
from ps.compress.key import Key
from ps.dataclass import dataclass
from ps.number import number
from ps.xp import Array, HostArray, namespace


@dataclass(frozen=True, slots=True)
class RandomK:
    """Send the share ``ratio`` of the elements, drawn by chance, exactly, and remember the rest.

    Stich et al., Sparsified SGD with memory, NeurIPS 2018, with a stratified draw: the vector is cut into k parts
    whose sizes differ by one at most, and one element is drawn from each, so that every element comes with
    probability k / size as there, up to that one; no two draws meet, and they need no sorting. The draw is that of
    the seed, the clock and the chunk: all workers send the same elements, and indices do not travel.

    Frame: the values in the vector's dtype, in the order of their indices, little-endian. The k is
    max(1, ratio * size rounded to the nearest, ties to even); part j is [j size // k, (j + 1) size // k) and its
    element is start + (length * u >> 32), with u the j-th 32 bits of the key's words, the lower half of a word first.

    Measured with 10 M float32 in chunks of 2 MiB, 1 %: 7 ms to encode, memory included, 3 ms to decode.
    """

    slots: ClassVar[tuple[str, ...]] = ("residual",)
    momentum: ClassVar[float] = 0.0

    ratio: float = number(0.01, above=0, at_most=1)

    def init(self, values: Array) -> dict[str, Array]:
        """Return {}."""
        return {}

    def count(self, size: int) -> int:
        """Return how many elements of ``size`` are sent."""
        return min(size, max(1, round(size * self.ratio)))

    def max_bytes(self, size: int, dtype: DTypeLike) -> int:
        """Return the length of every frame."""
        return self.count(size) * np.dtype(dtype).itemsize

    def draw(self, size: int, key: Key) -> HostArray:
        """Return the indices that are sent, increasing, int64."""
        count = self.count(size)
        edges = np.arange(count + 1, dtype=np.int64) * size // count
        chance = key.shared().words(-(-count // 2)).view(np.uint32)[:count]
        lengths = (edges[1:] - edges[:-1]).astype(np.uint64)
        return edges[:-1] + ((lengths * chance) >> np.uint64(32)).astype(np.int64)

    def encode(self, values: Array, key: Key, state: dict[str, Array], out: Array | None = None) -> Array:
        """Return the elements drawn."""
        frame = buffer(values, self.max_bytes(values.size, values.dtype), out)
        indices = like(values, self.draw(values.size, key))
        namespace(values).copyto(frame.view(values.dtype), values[indices])
        return frame

    def open(self, frame: Array, size: int, dtype: DTypeLike, key: Key, *, trusted: bool = False) -> Decoded:
        """Check the length and that values are finite."""
        kind = np.dtype(dtype)
        demand_bytes(frame, self.max_bytes(size, kind))
        elements = frame.view(kind)
        if not trusted:
            demand_finite(elements, "an element")
        return sparse(size, like(frame, self.draw(size, key)), elements)
