"""Staged: one client's delta on its way in, chunk by chunk. It counts when all is here and the scheduler says so."""

from __future__ import annotations

import math
from dataclasses import field

import numpy as np

from ps.compress import Decoded
from ps.compress.frame import blocks, scratch
from ps.dataclass import dataclass
from ps.optim import square_sum
from ps.optim.limit import all_within, limit_of
from ps.protocol.messages.words import Defect
from ps.xp import HostArray

MASKED = "masked"
"""The kind of a part that says nothing before it is summed."""
Part = HostArray | Decoded
"""The delta of one chunk, as it came."""


@dataclass(slots=True)
class Staged:
    """What has come of a contribution to one server's chunks. What is ``wrong`` is not kept."""

    since: float
    """When the last of it came."""
    expected: int = 0
    """Bytes that it will have."""
    parts: dict[int, Part] = field(default_factory=dict)
    squares: dict[int, float] = field(default_factory=dict)
    """Chunk -> squared L2 norm of its part; 0 for counters, and under masks."""
    nbytes: int = 0
    wrong: Defect = ""
    rank: int = 0
    """The client that it is of."""
    exact: bool = False
    """Whether norms are what something is held to: then squares are added in double precision."""

    def take(self, chunk: int, part: Part, kind: str, nbytes: int) -> None:
        """Keep the part of one chunk, unless there is NaN, Inf or what is beyond the limit of gradients in it."""
        squares = 0.0 if kind in ("counter", MASKED) else square(part, exact=self.exact)
        if not math.isfinite(squares):
            self.refuse(chunk, "nan")
            return
        self.squares[chunk] = squares
        if not self.wrong:
            self.parts[chunk] = part
            self.nbytes += nbytes
            if isinstance(part, Decoded) and part.sparse is not None:
                self.nbytes += sum(array.nbytes for array in part.sparse)

    def refuse(self, chunk: int, why: Defect) -> None:
        """Note that a part cannot be used, and with it the whole."""
        self.squares[chunk] = 0.0
        self.wrong = self.wrong or why
        self.parts.clear()
        self.nbytes = self.expected = 0

    @property
    def norm_squared(self) -> float:
        """The squared L2 norm of what is here, added in the order of the chunks; infinite when it is too large."""
        return sum(self.squares[chunk] for chunk in sorted(self.squares))


def read(part: Part, lo: int, hi: int, out: HostArray) -> HostArray:
    """Return a part's elements from ``lo`` to ``hi``; ``out`` has room for them where they are yet to be decoded."""
    return part.read(lo, hi, out) if isinstance(part, Decoded) else part[lo:hi]


@np.errstate(all="ignore")
def square(part: Part, *, exact: bool = False) -> float:
    """Return the squared L2 norm of a part; NaN when an element is NaN, Inf or beyond the limit of gradients.

    ``exact``: right to double precision, whatever the part's own is.
    """
    if isinstance(part, Decoded):
        if part.sparse is not None:
            return _square(part.sparse[1], exact)
        total, out = 0.0, np.empty(part.size, part.dtype)
        (room,) = scratch(out, part.dtype)
        for lo, hi in blocks(out):
            total += _square(part.read(lo, hi, room[: hi - lo]), exact)
        return total
    return _square(part, exact)


def _square(vector: HostArray, exact: bool) -> float:
    """One pass, which whatever is not usable makes too large; what is usable and overflows is added in double."""
    if not vector.size:
        return 0.0
    found, limit = float(np.dot(vector, vector)), limit_of(vector.dtype)
    if found <= limit * limit:
        return square_sum(vector) if exact else found
    if not all_within([vector]):
        return math.nan
    return square_sum(vector)
