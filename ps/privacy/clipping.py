"""The clip that adapts: a private estimate of a quantile of the norms, round by round. Pure."""

from __future__ import annotations

import math

from ps.privacy.grid import LEAST_CLIP, MOST_CLIP

BITS = 20
"""The count of unclipped deltas has a standard deviation of one in so many of the clients, as its authors have it."""


def adapted(clip: float, unclipped: float, quantile: float, rate: float) -> float:
    """Return the next round's clip: ``clip * exp(-rate * (unclipped - quantile))``.

    ``unclipped``: the noisy share of deltas whose norm was at most the clip. More of them than the quantile and the
    clip comes down, fewer and it goes up. Andrew et al., Differentially private learning with adaptive clipping, 2021.
    """
    return min(max(clip * math.exp(-rate * (unclipped - quantile)), LEAST_CLIP), MOST_CLIP)


def count_deviation(clients: float) -> float:
    """Return the standard deviation of the noise of the count, of so many clients."""
    return clients / BITS


def delta_noise(noise: float, deviation: float) -> float:
    """Return the noise multiplier for deltas so that they and the count, together, cost what ``noise`` costs alone.

    Each client's bit counts as ±1/2, so that without it the sum differs by 1/2. ValueError where the count alone costs
    as much: there are too few clients.
    """
    rest = noise**-2 - (2 * deviation) ** -2
    if rest <= 0:
        raise ValueError(f"a count with a deviation of {deviation:g} costs more than noise = {noise:g}")
    return float(rest**-0.5)
