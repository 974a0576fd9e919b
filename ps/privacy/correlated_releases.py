"""CorrelatedReleases: what a sequence of releases costs whose noise partly cancels what the one before had (DP-FTRL).

The noise of release t is ``d_0 z_t + d_1 z_{t-1} + … + d_{p-1} z_{t-p+1}``, z independent and Gaussian, d the first p
coefficients of the square root of 1 - x: a banded inverse of the factor C of a matrix factorization (Kalinin, McKenna,
Upadhyay and Lampert, Back to square roots, 2025), which only ever needs the last p keys. The sequence as a whole is one
Gaussian mechanism, adaptive releases included (Denisov et al., NeurIPS 2022).

C = 1 / d has columns that are positive and fall, so that the most which a client can move ``C x`` by is when it takes
part as early, as often and as close together as it may: the norm of the sum of the columns 0, b, 2b, … (Kalinin and
Lampert, Banded square root matrix factorization, NeurIPS 2024), b being the least separation of two participations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ps.errors import ConfigError
from ps.privacy.accountant import TOLERANCE, demand_accountant, epsilon_of
from ps.privacy.grid import MOST_NOISE
from ps.xp import HostArray

MOST_ROWS = 100_000
"""Releases in a sequence that are accounted for, at most."""


def noise_bands(count: int) -> tuple[float, ...]:
    """Return the first coefficients of the square root of 1 - x: 1, -1/2, -1/8, …"""
    found = [1.0]
    for number in range(1, count):
        found.append(found[-1] * (2 * number - 3) / (2 * number))
    return tuple(found)


def costs(rows: int, bands: int, separation: int, participations: int) -> HostArray:
    """Return the squared L2 sensitivity of the first 1, 2, …, ``rows`` releases, for a clip of 1: float64.

    ``separation``: a client is in two releases only if their numbers differ by so many; ``participations``: and in so
    many of them, at most.
    """
    weights = np.array(noise_bands(bands)[:0:-1])
    moved = np.zeros(rows + bands - 1)  # with zeros before the first
    for row in range(rows):
        taking = row % separation == 0 and row // separation < participations
        moved[row + bands - 1] = taking - (weights @ moved[row : row + bands - 1] if bands > 1 else 0.0)
    found: HostArray = np.cumsum(moved[bands - 1 :] ** 2)
    return found


class CorrelatedReleases:
    """Sequences of releases, each with noise of its own."""

    def __init__(self, bands: int, separation: int, participations: int) -> None:
        """``participations`` in a sequence; 0: as many as the separation allows."""
        self._shape = bands, separation, participations or MOST_ROWS
        self._costs = np.zeros(0)

    def cost(self, rows: int) -> float:
        """Return the squared sensitivity of a sequence. ConfigError for one that is too long."""
        if rows > MOST_ROWS:
            raise ConfigError(f"{rows:,} rounds with correlated noise, and {MOST_ROWS:,} are the most")
        if rows > self._costs.size:
            self._costs = costs(min(MOST_ROWS, max(rows, 2 * self._costs.size)), *self._shape)
        return float(self._costs[rows - 1]) if rows > 0 else 0.0

    def epsilon(self, noise: float, lengths: Sequence[int], delta: float) -> float:
        """Return the epsilon of these sequences: Gaussian mechanisms, whose squared sensitivities add up."""
        total = math.fsum(self.cost(rows) for rows in lengths)
        return epsilon_of(noise / math.sqrt(total), 1, delta) if total > 0 and noise > 0 else 0.0 if noise else math.inf

    def noise_for(self, eps: float, delta: float, releases: int) -> float:
        """Return the least multiplier of z, nearly. ConfigError where it would be too much."""
        least = float(demand_accountant().get_sigma_gaussian(eps, delta))
        found = math.sqrt(self.cost(releases)) * least * (1 + TOLERANCE)
        if not found <= MOST_NOISE:
            raise ConfigError(f"eps={eps:g} for {releases} rounds needs a noise multiplier of {found:.3g}")
        return found
