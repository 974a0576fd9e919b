"""Accountant: what so many releases with so much noise cost, and how much noise a budget demands.

The arithmetic is dp-accounting's, which is imported when it is needed: scheduler and ``psctl privacy`` alone do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ps.errors import ConfigError
from ps.privacy.grid import LEAST_NOISE, MOST_NOISE

TOLERANCE = 1e-4
"""Of a noise multiplier, by how much more than the least it is."""
MOST_RELEASES = 10_000_000


def demand_accountant() -> Any:
    """Return the library. ConfigError when it is not installed."""
    try:
        import dp_accounting
    except ImportError:
        raise ConfigError(
            "--dp needs the package dp-accounting to tell what is spent. Try: pip install 'paramserver[privacy]'"
        ) from None
    return dp_accounting


def epsilon_of(noise: float, releases: int, delta: float) -> float:
    """Return the epsilon of so many releases, each with this noise multiplier.

    n Gaussians are exactly one with the multiplier ``noise / √n`` (Dong, Roth and Su, 2022), whose epsilon has a closed
    form (Balle and Wang, ICML 2018). Nothing is taken off for sampling: there is no Poisson sampling here.
    """
    if releases <= 0:
        return 0.0
    if noise <= 0:
        return math.inf
    return float(demand_accountant().get_epsilon_gaussian(noise / math.sqrt(releases), delta))


def noise_for(eps: float, delta: float, releases: int) -> float:
    """Return a noise multiplier with which so many releases cost ``eps`` at most, hardly above the least one.

    ConfigError where even the most noise that there can be is too little.
    """
    found = math.sqrt(releases) * float(demand_accountant().get_sigma_gaussian(eps, delta)) * (1 + TOLERANCE)
    if not found <= MOST_NOISE:
        raise ConfigError(
            f"eps={eps:g} for {releases} rounds needs a noise multiplier of {found:.3g}, which is too much"
        )
    return max(found, LEAST_NOISE)


def affordable(cost: Callable[[int], float], eps: float, most: int = MOST_RELEASES) -> int:
    """Return how many releases ``eps`` pays for, ``most`` at most. ``cost`` returns the epsilon of so many."""
    low, high = 0, min(most, MOST_RELEASES) + 1
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= eps else (low, middle)
    return low
