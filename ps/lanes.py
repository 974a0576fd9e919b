"""Sums whose order is written down, so that NumPy and compiled loops have the same bits."""

from __future__ import annotations

from ps.xp import Array

LANES = 1024
"""Sums side by side that a sum is made of."""


def lane_sums(rows: Array) -> Array:
    """Return the sum of each row, (rows, n) float64: element i is added to lane i % LANES, and lanes then by halves."""
    even = rows.shape[1] // LANES * LANES
    lanes = rows[:, :even].reshape(rows.shape[0], -1, LANES).sum(axis=1)
    lanes[:, : rows.shape[1] - even] += rows[:, even:]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]
