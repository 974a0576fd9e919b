"""Aggregators decide *how* contributions are combined. One small file each, and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ps.server.aggregate.mean import Mean
from ps.server.aggregate.weighted import WeightedMean
from ps.xp import HostArray


class Aggregator(Protocol):
    """Combines gradients element by element, one cache-sized block at a time.

    The combination is ``combine`` times ``factor``: a number that whoever uses it multiplies with anyway, such as the
    learning rate, costs no pass over the block.
    """

    def factor(self, examples: Sequence[float]) -> float:
        """Return what a block that ``combine`` returns is still to be multiplied with."""
        ...

    def combine(
        self, parts: Sequence[HostArray], examples: Sequence[float], out: HostArray, spare: HostArray
    ) -> HostArray:
        """Return the combination of ``parts`` (1-D, equal length, at least one), not multiplied with the factor.

        ``examples`` is how many examples each part was computed from. The parts are only read, in their order. The
        result is ``out``, or a part that needs nothing done; ``spare`` (like ``out``) may be overwritten.
        """
        ...


REGISTRY: dict[str, Aggregator] = {"mean": Mean(), "weighted": WeightedMean()}
