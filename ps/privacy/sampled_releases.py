"""SampledReleases: what releases cost of which each client is in one with a chance of its own, independent of all else.

Poisson sampling (Abadi et al., CCS 2016). The arithmetic is that of privacy loss distributions in dp-accounting, which
rounds losses up: what it tells is never too little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ps.errors import ConfigError
from ps.privacy.accountant import TOLERANCE, demand_accountant, noise_for
from ps.privacy.grid import MOST_NOISE

WIDTH = 1e-3
"""The grid to which privacy losses of one release are rounded up."""
LEAST_SAMPLED_NOISE = 0.1
"""Noise multipliers, at least: with less, sampling buys nothing that could be computed."""


class SampledReleases:
    """Gaussian noise, new for each release, which each client is in with probability ``chance``."""

    def __init__(self, chance: float) -> None:
        self.chance = chance

    def epsilon(self, noise: float, lengths: Sequence[int], delta: float) -> float:
        """Return the epsilon of these releases; Inf where there is hardly any noise."""
        releases = sum(lengths)
        if releases <= 0:
            return 0.0
        if noise < LEAST_SAMPLED_NOISE:
            return math.inf
        return float(_losses(noise, self.chance).self_compose(releases).get_epsilon_for_delta(delta))

    def noise_for(self, eps: float, delta: float, releases: int) -> float:
        """Return the least noise multiplier, nearly. ConfigError where it would be too much."""
        high = noise_for(eps, delta, releases)  # without sampling
        low = min(LEAST_SAMPLED_NOISE, high)
        while high / low > 1 + TOLERANCE:
            middle = high / 2 if high > 2 * low else math.sqrt(low * high)  # little noise takes long to account for
            if self.epsilon(middle, (releases,), delta) <= eps:
                high = middle
            else:
                low = middle
        if not (LEAST_SAMPLED_NOISE <= high <= MOST_NOISE and self.epsilon(high, (releases,), delta) <= eps):
            raise ConfigError(f"eps={eps:g} for {releases} sampled rounds: no noise multiplier is known to do")
        return high


@lru_cache(maxsize=8)
def _losses(noise: float, chance: float) -> Any:
    """Return the distribution of the privacy loss of one release, for a client that is added or removed."""
    demand_accountant()
    from dp_accounting.pld import privacy_loss_distribution

    return privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=chance, value_discretization_interval=WIDTH
    )
