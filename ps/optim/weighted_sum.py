"""WeightedSum: ``sum w_i x_i`` over gradients that are all there, one cache-sized block at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps import native
from ps.half import is_half, widen, worked_in
from ps.optim.workspace import Workspace
from ps.xp import HostArray

SPARE = 3
"""The block that no one else uses who reads a gradient block by block."""

_workspace = Workspace()


class WeightedSum:
    """A gradient (``ps.optim.Reader``): the weighted mean of parts is what it reads times ``factor``.

    The factor is a number that whoever uses the sum multiplies with anyway, such as the learning rate, and costs no
    pass over the block. Weights are taken relative to the largest: equal ones, mostly all of them, cost no
    multiplication either, and parts that weigh nothing are not read. All-zero weights count as equal.
    """

    def __init__(self, parts: Sequence[HostArray], weights: Sequence[float], workspace: Workspace = _workspace) -> None:
        """``parts``: 1-D, of one length and dtype, at least one, which are only read; ``weights``: none negative.

        Parts in half precision are read as float32.
        """
        most = max(weights)
        relative = [weight / most for weight in weights] if most > 0 else [1.0] * len(parts)
        terms = [(part, share) for part, share in zip(parts, relative, strict=True) if share]
        self.parts = tuple(part for part, _ in terms)
        """Those that count."""
        self.shares = tuple(float(share) for _, share in terms)
        """What each is multiplied with."""
        self.factor = 1 / sum(relative)
        self.dtype = worked_in(self.parts[0].dtype)
        self._workspace = workspace

    @property
    def nbytes(self) -> int:
        """What is read for the whole sum."""
        return sum(part.nbytes for part in self.parts)

    def between(self, lo: int, hi: int) -> WeightedSum:
        """Return elements ``lo`` to ``hi``, unread."""
        return WeightedSum([part[lo:hi] for part in self.parts], self.shares, self._workspace)

    def write(self, lo: int, hi: int, out: HostArray, factor: float) -> None:
        """Write elements ``lo`` to ``hi``, times ``factor``, into ``out``."""
        compiled = native.kernels()
        if compiled is not None:
            parts = tuple(native.raw(part[lo:hi]) for part in self.parts)
            if compiled.combine(out, parts, self.shares, factor, 0.0, 0, hi - lo) is not None:
                return
        np.multiply(self(lo, hi, out), factor, out=out)

    def __call__(self, lo: int, hi: int, out: HostArray) -> HostArray:
        """Return elements ``lo`` to ``hi``, added in the order of the parts: ``out``, or a part's own elements."""
        total = None
        for part, share in zip(self.parts, self.shares, strict=True):
            block, room = part[lo:hi], out if total is None else self._workspace.block(out.dtype, SPARE, hi - lo)
            if is_half(part.dtype):
                widen(block, room)
                block = room
            term = block if share == 1.0 else np.multiply(block, share, out=room)
            total = term if total is None else np.add(total, term, out=out)
        assert total is not None
        return total
