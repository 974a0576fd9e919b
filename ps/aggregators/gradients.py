"""Gradients of one chunk and clock, combined by any aggregator that needs no more than them.

A server of a synchronous job has all workers' gradients of a chunk when it closes a clock, and holds them until then
whatever the aggregator. What combines each element for itself (median, trimmed) gives the same as over whole gradients.
What weighs by distances (krum, multikrum, geomedian) judges each chunk on its own: a server has a part of each gradient
only, and closes one chunk after another while the rest is still on its way. A model of one chunk (``--chunk-size``) is
judged as a whole; of a larger one each chunk is as safe as the paper says, and may follow other workers than the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps.aggregators.aggregator import Aggregator, Weigh
from ps.aggregators.distances import distances
from ps.optim import Reader, WeightedSum, Workspace
from ps.optim.limit import within_limit
from ps.xp import HostArray

_workspace = Workspace()


def combination(
    aggregator: Aggregator, parts: Sequence[HostArray], examples: Sequence[float], workspace: Workspace = _workspace
) -> tuple[Reader, float]:
    """Return what reads the combination of gradients, and the factor it has yet to be multiplied with.

    ``parts``: at least as many as the aggregator wants at least, 1-D, float32 or float64, of one length and dtype, in
    the order in which they are added; they are only read, and must stay until the combination was. ``examples`` is how
    many each was computed from.
    """
    if aggregator.kind == "combine":
        elementwise = aggregator

        def combine(lo: int, hi: int, out: HostArray) -> HostArray:
            elementwise.combine([part[lo:hi] for part in parts], out)
            return out

        return combine, 1.0
    if aggregator.kind == "weigh":
        weights: Sequence[float] = weights_of(aggregator, parts)
    else:
        weights = [aggregator.weight(count) for count in examples]
    added = WeightedSum(parts, weights, workspace)
    return added, added.factor


def weights_of(aggregator: Weigh, parts: Sequence[HostArray]) -> list[float]:
    """Return what each part weighs; one with NaN, Inf or too large a number is infinitely far from all others."""
    usable = np.array([within_limit(part) for part in parts])
    apart = np.where(np.eye(len(parts), dtype=bool), 0.0, np.inf)
    apart[np.ix_(usable, usable)] = distances([part for part, fine in zip(parts, usable, strict=True) if fine])
    return [float(weight) for weight in aggregator.weights(apart)]
