"""Statistical tests of numbers that are said to be drawn by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ps.xp import HostArray

CELLS = 1000


def chi_square_of_normal(values: HostArray, cells: int = CELLS) -> float:
    """Return the chance that standard normal numbers fill cells of equal probability as unevenly as these."""
    normal = NormalDist()
    edges = [normal.inv_cdf(i / cells) for i in range(1, cells)]
    counts = np.bincount(np.searchsorted(edges, values), minlength=cells)
    expected = values.size / cells
    statistic = float(np.sum((counts - expected) ** 2) / expected)
    return upper_tail(statistic, cells - 1)


def upper_tail(statistic: float, freedom: int) -> float:
    """Return the chance of a larger chi-square with so many degrees of freedom (Wilson and Hilferty, 1931)."""
    spread = 2 / (9 * freedom)
    return 0.5 * math.erfc(((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(2 * spread))


def chi_square(counts: Sequence[float], expected: Sequence[float]) -> float:
    """Return the chance of counts as far from what is expected as these, of which all but one are free."""
    statistic = sum((count - wanted) ** 2 / wanted for count, wanted in zip(counts, expected, strict=True))
    return upper_tail(statistic, len(counts) - 1)
