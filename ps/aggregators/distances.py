"""The squared distances between all contributions, for the aggregators that weigh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps.errors import UsageError
from ps.xp import HostArray

BLOCK_BYTES = 1 << 21
"""Bytes of all vectors' elements that are worked on at once, in double precision."""

LEAST_BLOCK = 1 << 10
"""Elements of each vector that are worked on at once at least, so that the product is worth its call."""

CLOSE = 1e-8
"""Where a squared distance is this small a part of the squares it is the difference of, half its digits are gone."""


@np.errstate(over="ignore", invalid="ignore")
def distances(vectors: Sequence[HostArray]) -> HostArray:
    """Return the squared L2 distance of each vector to each: float64 (n, n), symmetric, 0 on the diagonal.

    ``vectors``: n of them, 1-D, of one length, float32 or float64, finite; a square too large for float64 is Inf. Those
    of a model's chunks add up to those of the model. UsageError when lengths differ.

    ``|x - y|^2 = |x|^2 + |y|^2 - 2 x.y`` by one matrix product for each block, in double precision. Around the vector
    that is shortest there: a mean would lie wherever one huge vector draws it, and the others' distances would be lost
    in rounding. The distances that are lost all the same, of vectors that are close to each other and far from that
    one, are worked out as they are defined; so equal vectors are at distance 0, and nobody blurs the others'.

    Measured on one core with 100 vectors of 200,000 float32: 0.1 s; where every pair must be worked out, 1.7 s.
    """
    n, size = len(vectors), vectors[0].size if vectors else 0
    for vector in vectors:
        if vector.shape != (size,):
            raise UsageError(f"expected {n} vectors of {size} elements, not one of shape {list(vector.shape)}")
    total = np.zeros((n, n))
    block = max(LEAST_BLOCK, BLOCK_BYTES // (8 * max(1, n)))
    scratch = np.empty((n, min(block, size)))
    for lo in range(0, size if n > 1 else 0, block):
        rows = scratch[:, : min(block, size - lo)]
        for row, vector in zip(rows, vectors, strict=True):
            row[:] = vector[lo : lo + block]
        total += _above(rows)
    total[np.isnan(total)] = np.inf  # the difference of two that are infinite
    total += total.T.copy()
    return total


def _above(rows: HostArray) -> HostArray:
    """Return the distances of each row to those behind it, above the diagonal; moves the rows."""
    rows -= rows[np.argmin(np.einsum("ij,ij->i", rows, rows))].copy()
    products = rows @ rows.T
    squares = np.diag(products)
    both = squares[:, None] + squares
    found: HostArray = np.triu(both - 2 * products, 1)
    close = np.triu(found <= CLOSE * both, 1)
    for i in np.flatnonzero(close.any(axis=1)):
        others = np.flatnonzero(close[i])
        apart = rows[others] - rows[i]
        found[i, others] = np.einsum("ij,ij->i", apart, apart)
    return found
