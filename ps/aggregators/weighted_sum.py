"""WeightedSum: ``sum w_i x_i`` over gradients that are all there, one cache-sized block at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps.xp import HostArray


class WeightedSum:
    """The weighted mean of parts is what ``read`` returns times ``factor``.

    The factor is a number that whoever uses the sum multiplies with anyway, such as the learning rate, and costs no
    pass over the block. Weights are taken relative to the largest: equal ones, mostly all of them, cost no
    multiplication either, and parts that weigh nothing are not read. All-zero weights count as equal.
    """

    def __init__(self, parts: Sequence[HostArray], weights: Sequence[float]) -> None:
        """``parts``: 1-D, of one length and dtype, at least one, which are only read; ``weights``: none negative."""
        most = max(weights)
        relative = [weight / most for weight in weights] if most > 0 else [1.0] * len(parts)
        self._terms = [(part, share) for part, share in zip(parts, relative, strict=True) if share]
        self.factor = 1 / sum(relative)

    def read(self, lo: int, hi: int, out: HostArray, spare: HostArray) -> HostArray:
        """Return elements ``lo`` to ``hi``, added in the order of the parts: ``out``, or a part's own elements.

        ``spare``, like ``out``, may be overwritten.
        """
        total = None
        for part, share in self._terms:
            block = part[lo:hi]
            term = block if share == 1.0 else np.multiply(block, share, out=out if total is None else spare)
            total = term if total is None else np.add(total, term, out=out)
        assert total is not None
        return total
