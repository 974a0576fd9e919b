"""Skellam noise: the difference of two Poisson numbers. A sum of it is such noise again, so clients add it in shares.

Agarwal, Kairouz and Liu, The Skellam mechanism for differentially private federated learning, NeurIPS 2021. Here are
the numbers that are drawn, out of a generator that the operating system keys, and what the sum of a round costs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ps.errors import ConfigError
from ps.privacy.accountant import TOLERANCE, demand_accountant
from ps.privacy.grid import MOST_NOISE
from ps.xp import HostArray

TAILS = 12
"""Standard deviations beyond which there is nothing: less than 2^-100 should be."""
MOST_DEVIATION = float(1 << 16)
"""The largest standard deviation of one client's share, in steps: its table has some 800,000 entries."""
BLOCK = 1 << 16
ORDERS = (*range(2, 65), *range(68, 129, 4), 144, 160, 192, 224, 256, 320, 384, 512, 768, 1024, 2048, 4096)
"""Orders of Rényi divergences, whole ones alone: for others the mechanism's authors prove nothing."""


def draw_skellam(key: bytes, stream: int, size: int, variance: float) -> HostArray:
    """Return ``size`` numbers of Skellam noise with this variance, int64, centred at 0.

    The same key and stream give the same numbers; no two streams of a key have anything in common. Each number is that
    of 64 bits from SHAKE-256 in the table of the distribution: right to 2^-63 for each value.
    """
    survival = _survival(variance)
    out = np.empty(size, np.int64)
    for number, lo in enumerate(range(0, size, BLOCK)):
        hi = min(lo + BLOCK, size)
        label = b"skellam" + stream.to_bytes(8, "little") + number.to_bytes(8, "little")
        bits = np.frombuffer(hashlib.shake_256(key + label).digest(8 * (hi - lo)), np.uint64)
        magnitude = survival.size - np.searchsorted(survival, bits >> np.uint64(1), side="right")
        out[lo:hi] = np.where(bits & np.uint64(1), -magnitude, magnitude)
    return out


@lru_cache(maxsize=4)
def _survival(variance: float) -> HostArray:
    """Return the chances, times 2^63, that a magnitude is at least R, R - 1, …, 1: uint64, ascending."""
    reach = math.ceil(TAILS * math.sqrt(variance)) + 60
    mass = [0.0] * (reach + 1)
    above, here = 0.0, 1e-250  # Bessel functions of the order downwards (Miller), up to a factor
    for order in range(reach, -1, -1):
        mass[order] = here
        above, here = here, above + 2 * order / variance * here
        if here > 1e250:
            above, here = above * 1e-250, here * 1e-250
            mass[order:] = [each * 1e-250 for each in mass[order:]]
    chances = np.array(mass)
    chances[1:] *= 2
    tail = np.cumsum(chances[::-1])[:-1] / chances.sum()
    found: HostArray = np.floor(tail * 2.0**63).astype(np.uint64)
    return found


def rounded_norm(clip: float, elements: int) -> float:
    """Return the L2 norm to which a vector of norm ``clip`` is held when it is rounded by chance to whole numbers.

    Whoever rounds does it again until it holds, which takes three tries at most, on average (Kairouz, Liu and Steinke,
    ICML 2021, with β = exp(-1/2)).
    """
    root = math.sqrt(elements)
    return min(clip + root, math.sqrt(clip * clip + elements / 4 + clip + root / 2))


class SkellamReleases:
    """Sums of clipped, rounded deltas to which the clients that must survive add shares of Skellam noise."""

    def __init__(self, clip: float, elements: int) -> None:
        """``clip``: the L2 norm of a delta in steps, before it is rounded; ``elements``: of the model."""
        self.norm = rounded_norm(clip, max(1, elements))
        """The L2 sensitivity, in steps."""
        self._sum_norm = min(self.norm**2, math.sqrt(max(1, elements)) * self.norm)

    def variance(self, noise: float) -> float:
        """Return the variance of a sum's noise, in steps, that is this multiplier."""
        return (noise * self.norm) ** 2

    def epsilon(self, noise: float, lengths: Sequence[int], delta: float) -> float:
        """Return the epsilon of these releases."""
        releases = sum(lengths)
        if releases <= 0:
            return 0.0
        if noise <= 0:
            return math.inf
        demand_accountant()
        from dp_accounting import rdp

        return float(rdp.compute_epsilon(np.array(ORDERS, float), releases * self.divergences(noise), delta)[0])

    def divergences(self, noise: float) -> HostArray:
        """Return what one release costs: Rényi divergences of ``ORDERS``, at most."""
        orders, variance = np.array(ORDERS, float), self.variance(noise)
        square, total = self.norm**2, self._sum_norm
        more = np.minimum(((2 * orders - 1) * square + 6 * total) / (4 * variance**2), 1.5 * total / variance)
        found: HostArray = orders * square / (2 * variance) + more
        return found

    def noise_for(self, eps: float, delta: float, releases: int) -> float:
        """Return the least noise multiplier, nearly. ConfigError where it would be too much."""
        low, high = 1e-3, 1.0
        while self.epsilon(high, (releases,), delta) > eps:
            low, high = high, 2 * high
            if high > MOST_NOISE:
                raise ConfigError(f"eps={eps:g} for {releases} rounds needs too much noise")
        while high / low > 1 + TOLERANCE:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.epsilon(middle, (releases,), delta) <= eps else (middle, high)
        return high
