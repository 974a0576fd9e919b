"""Accountant: what so many releases with so much noise cost, and how much noise a budget demands.

The arithmetic is dp-accounting's, which is imported when it is needed: scheduler and ``psctl privacy`` alone do.
"""

from __future__ import annotations

import math
from typing import Any

from ps.errors import ConfigError
from ps.privacy.grid import LEAST_NOISE, MOST_NOISE

TOLERANCE = 1e-4
"""Of a noise multiplier, by how much more than the least it may be; it is never less."""
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


def epsilon_of(noise: float, releases: int, delta: float, q: float = 0.0) -> float:
    """Return the epsilon of so many releases, each with this noise multiplier; an upper bound.

    Without sampling (``q`` 0 or 1) n Gaussians are exactly one with the multiplier ``noise / √n`` (Dong, Roth and Su,
    2022), whose epsilon has a closed form (Balle and Wang, ICML 2018). With Poisson sampling of chance ``q`` privacy
    loss distributions are composed (Koskela et al. 2020; Doroshenko et al. 2022), rounded up.
    """
    if releases <= 0:
        return 0.0
    if noise <= 0:
        return math.inf
    library = demand_accountant()
    if q in (0.0, 1.0):
        return float(library.get_epsilon_gaussian(noise / math.sqrt(releases), delta))
    event = library.PoissonSampledDpEvent(q, library.GaussianDpEvent(noise))
    accountant = library.pld.PLDAccountant(library.NeighboringRelation.ADD_OR_REMOVE_ONE)
    return float(accountant.compose(library.SelfComposedDpEvent(event, releases)).get_epsilon(delta))


def noise_for(eps: float, delta: float, releases: int, q: float = 0.0) -> float:
    """Return a noise multiplier with which so many releases cost ``eps`` at most, not much above the least one.

    ConfigError where even the most noise that there can be is too little.
    """
    library = demand_accountant()
    if q in (0.0, 1.0):
        found = math.sqrt(releases) * float(library.get_sigma_gaussian(eps, delta)) * (1 + TOLERANCE)
        return _demand_possible(found, eps, releases)
    high = _demand_possible(noise_for(eps, delta, releases), eps, releases)  # sampling never costs
    low = 0.0
    while high - low > TOLERANCE * high:
        middle = (low + high) / 2
        if middle >= LEAST_NOISE and epsilon_of(middle, releases, delta, q) <= eps:
            high = middle
        else:
            low = middle
    return high


def _demand_possible(noise: float, eps: float, releases: int) -> float:
    if not noise <= MOST_NOISE:
        raise ConfigError(
            f"eps={eps:g} for {releases} rounds needs a noise multiplier of {noise:.3g}, which is too much"
        )
    return max(noise, LEAST_NOISE)


def affordable(noise: float, eps: float, delta: float, q: float = 0.0, most: int = MOST_RELEASES) -> int:
    """Return how many releases with this noise multiplier ``eps`` pays for, ``most`` at most."""
    low, high = 0, most + 1
    guess = 1
    while low + 1 < high:
        middle = min(guess, (low + high) // 2) if guess > low else (low + high) // 2
        if epsilon_of(noise, middle, delta, q) <= eps:
            low, guess = middle, 2 * middle
        else:
            high = middle
    return low
