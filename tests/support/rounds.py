"""Rounds of contributions: those of honest clients around a common direction, and attackers among them."""

from __future__ import annotations

import numpy as np

from ps.aggregators import AGGREGATORS, distances


def honest(n: int, size: int, seed: int = 0, dtype: str = "float64") -> list[np.ndarray]:
    """Return n vectors of about norm sqrt(2 size), spread around (1, ..., 1)."""
    rng = np.random.default_rng(seed)
    return [(1 + rng.standard_normal(size)).astype(dtype) for _ in range(n)]


def cut(vectors: list[np.ndarray], ends: list[int]) -> list[list[np.ndarray]]:
    """Return the chunks that end there, each with the part of every vector."""
    starts = [0, *ends]
    return [[v[lo:hi] for v in vectors] for lo, hi in zip(starts, [*ends, vectors[0].size], strict=True)]


def combined(text: str, vectors: list[np.ndarray]) -> np.ndarray:
    """Return what an aggregator makes of contributions that claim one example each, in float64."""
    aggregator = AGGREGATORS.parse(text).build()
    if aggregator.kind == "combine":
        out = np.empty_like(vectors[0])
        aggregator.combine(vectors, out)
        return np.float64(out)
    if aggregator.kind == "weigh":
        return aggregator.weights(distances(vectors)) @ np.float64(vectors)
    norms = [float(np.linalg.norm(np.float64(v))) for v in vectors]
    typical = float(np.median(norms))
    weights = [aggregator.weight(1.0) for _ in vectors]
    scales = [w * aggregator.scale(norm, typical) for w, norm in zip(weights, norms, strict=True)]
    return np.float64(scales) @ np.float64(vectors) / sum(weights)
