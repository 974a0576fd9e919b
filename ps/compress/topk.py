"""The largest elements only."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ps.compress.decoded import Decoded, sparse
from ps.compress.frame import buffer, demand, demand_finite, like
from ps.compress.key import Key
from ps.dataclass import dataclass
from ps.number import number
from ps.xp import Array, is_host, namespace

SEGMENT = 1 << 16
"""Elements whose index within the segment fits 16 bits."""

_STRIDE = 31  # of the sample: odd, so that it meets all columns of a matrix


@dataclass(frozen=True, slots=True)
class TopK:
    """Send the share ``ratio`` of the elements, those of largest magnitude, exactly, and remember the rest.

    Stich et al., Sparsified SGD with memory, NeurIPS 2018. With ``momentum`` and ``warmup`` it is Lin et al., Deep
    gradient compression, ICLR 2018: the memory adds up momentum's velocity instead of the gradient (momentum
    correction), the velocity of what was sent starts again at 0 (momentum factor masking), and over the first
    ``warmup`` clocks the share shrinks exponentially from 1/4 to ``ratio``; the paper's 25 %, 6.25 %, 1.56 %, 0.4 %,
    0.1 % are four clocks of warm-up. Momentum at the workers takes the place of the server's, whose optimizer has to
    be plain sgd. The paper's local gradient clipping is left to the caller.

    At least one element is sent, and always exactly as many as the share says: of equal ones the first.

    Frame: the values in the vector's dtype, in the order of their indices; how many of them lie in each segment of
    65536 elements, 4 bytes each; for each value its index within its segment, 2 bytes each. Little-endian. Six bytes
    for each float32: 1 % is 1/66.

    Measured with 10 M float32 in chunks of 2 MiB, 1 %: 15 ms to encode, memory included (20 with momentum), 2 ms to
    decode; np.partition over everything instead of the sample takes 60 ms for the choice alone.
    """

    slots: ClassVar[tuple[str, ...]] = ("residual", "velocity")

    ratio: float = number(0.01, above=0, at_most=1)
    momentum: float = number(0.0, at_least=0, below=1)
    warmup: int = number(0, at_least=0, whole=True)

    def init(self, values: Array) -> dict[str, Array]:
        """Return {}."""
        return {}

    def density(self, clock: int) -> float:
        """Return the share of elements that is sent at ``clock``."""
        if clock >= self.warmup or self.ratio >= 0.25:
            return self.ratio
        return float(0.25 * (4 * self.ratio) ** (clock / self.warmup))

    def count(self, size: int, clock: int) -> int:
        """Return how many elements of ``size`` are sent at ``clock``."""
        return min(size, max(1, round(size * self.density(clock))))

    def max_bytes(self, size: int, dtype: DTypeLike) -> int:
        """Return the length of a frame, of the first if there is a warm-up."""
        return _nbytes(self.count(size, 0), size, np.dtype(dtype))

    def encode(self, values: Array, key: Key, state: dict[str, Array], out: Array | None = None) -> Array:
        """Return the largest elements; NaN among them leaves some out."""
        xp, kind, size = namespace(values), values.dtype, values.size
        indices = largest(values, self.count(size, key.clock))
        count = indices.size
        frame = buffer(values, _nbytes(count, size, kind), out)
        elements, counts, lows = _parts(frame, count, size, kind)
        xp.copyto(elements, values[indices])
        ends = like(values, np.arange(1, counts.size + 1) * SEGMENT)
        reached = xp.searchsorted(indices, ends)
        counts[0] = reached[0]
        xp.copyto(counts[1:], reached[1:] - reached[:-1], casting="unsafe")
        xp.copyto(lows, indices & (SEGMENT - 1), casting="unsafe")
        return frame

    def open(self, frame: Array, size: int, dtype: DTypeLike, key: Key, *, trusted: bool = False) -> Decoded:
        """Check the length, that indices increase and are in range, and that values are finite."""
        kind = np.dtype(dtype)
        count, extra = divmod(frame.size - _nbytes(0, size, kind), _nbytes(1, 0, kind))
        demand(0 <= count <= size and not extra, f"{frame.size} bytes are no selection of {size} elements")
        elements, counts, lows = _parts(frame, count, size, kind)
        xp = namespace(frame)
        if not trusted:
            demand(int(counts.sum(dtype=np.int64)) == count, f"segments with more or less than {count} elements")
            demand_finite(elements, "an element")
        ends = counts.astype(np.int64).cumsum()
        segments = xp.searchsorted(ends, xp.arange(count), side="right")
        indices = segments * SEGMENT + lows
        if not trusted and count:
            demand(bool((indices[1:] > indices[:-1]).all()), "indices that do not increase")
            demand(int(indices[-1]) < size, f"index {int(indices[-1])} of {size} elements")
        return sparse(size, indices, elements)


def largest(values: Array, count: int) -> Array:
    """Return the indices, increasing, of the ``count`` elements of largest magnitude; of equal ones the first.

    A sample gives a bound that a few more than ``count`` should pass, and the right ones are picked among these, so
    that the result does not depend on the sample. Where fewer pass because many are equal to the bound, as zeros of a
    sparse gradient are, it is the right bound itself. Fewer come back only when there are NaN.
    """
    xp, size = namespace(values), values.size
    magnitude = xp.absolute(values)
    if size >= SEGMENT and 8 * count <= size:
        sample = magnitude[::_STRIDE].copy()
        wanted = min(sample.size, int(1.25 * count / _STRIDE) + 32)
        bound = xp.partition(sample, sample.size - wanted)[sample.size - wanted]
        above = xp.flatnonzero(magnitude > bound)
        if above.size >= count:
            return above[_first(magnitude[above], count)]
        equal = xp.flatnonzero(magnitude == bound)
        if above.size + equal.size >= count:
            return xp.sort(xp.concatenate([above, equal[: count - above.size]]))
    return _first(magnitude, count)


def _first(magnitude: Array, count: int) -> Array:
    """Return like ``largest`` the indices of the ``count`` largest, by looking at all."""
    xp = namespace(magnitude)
    bound = _bound(magnitude, count)
    above = xp.flatnonzero(magnitude > bound)
    return xp.sort(xp.concatenate([above, xp.flatnonzero(magnitude == bound)[: count - above.size]]))


def _bound(magnitude: Array, count: int) -> Array:
    """Return the ``count``-th largest magnitude, in a time that does not depend on the values.

    NumPy's partition takes 16 times as long when all but a few are equal. So on the host the bound's bits are found one
    by one: those of magnitudes are in the order of what they stand for.
    """
    if not is_host(magnitude):
        return namespace(magnitude).partition(magnitude, magnitude.size - count)[magnitude.size - count]
    bits = magnitude.view(np.uint32 if magnitude.itemsize == 4 else np.uint64)
    low, high = 0, int(bits.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.count_nonzero(bits >= middle) >= count:
            low = middle
        else:
            high = middle - 1
    return np.array(low, bits.dtype).view(magnitude.dtype)


def _nbytes(count: int, size: int, kind: np.dtype[Any]) -> int:
    return count * (kind.itemsize + 2) + 4 * -(-size // SEGMENT)


def _parts(frame: Array, count: int, size: int, kind: np.dtype[Any]) -> tuple[Array, Array, Array]:
    first = count * kind.itemsize
    second = first + 4 * -(-size // SEGMENT)
    return frame[:first].view(kind), frame[first:second].view(np.uint32), frame[second:].view(np.uint16)
