"""Aggregators decide *how* contributions are combined. One small file each, and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ps.server.aggregate.mean import Mean
from ps.server.aggregate.weighted import WeightedMean
from ps.xp import HostArray


class Aggregator(Protocol):
    """Combines gradients element by element, one cache-sized block at a time."""

    def combine(self, parts: Sequence[HostArray], examples: Sequence[float], out: HostArray) -> None:
        """Write the combination of ``parts`` (1-D, equal length, at least one) into ``out``.

        ``examples`` is how many examples each part was computed from. The parts are only read, in their order.
        """
        ...


REGISTRY: dict[str, Aggregator] = {"mean": Mean(), "weighted": WeightedMean()}
