"""What Gaussian noise costs, worked out without the library that ``ps`` uses for it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np


def settings(count: int, seed: int = 0) -> Iterator[tuple[float, float, int]]:
    """Yield so many budgets as (eps, delta, rounds), drawn over all that jobs may have."""
    chance = random.Random(seed)
    for _ in range(count):
        yield math.exp(chance.uniform(-4, 4)), 10 ** -chance.uniform(3, 9), int(math.exp(chance.uniform(0, 9)))


def delta_of(eps: float, mu: float) -> float:
    """Return the delta of a Gaussian at eps, ``mu`` being sensitivity over deviation (Balle and Wang, 2018)."""
    low, high = mu / 2 - eps / mu, -mu / 2 - eps / mu
    first = 0.5 * math.erfc(-low / math.sqrt(2))
    # exp(eps) * Phi(high), whose factors over- and underflow each on its own
    tail = -high / math.sqrt(2)
    second = 0.5 * _scaled_erfc(tail) * math.exp(eps - tail * tail) if tail > 5 else math.exp(eps) * math.erfc(tail) / 2
    return first - second


def _scaled_erfc(x: float) -> float:
    """Return exp(x²) erfc(x) for large x, by its continued fraction."""
    value = x
    for k in range(200, 0, -1):
        value = x + (k / 2) / value
    return 1 / (value * math.sqrt(math.pi))


def epsilon_by_integration(noise: float, releases: int, delta: float, q: float, width: float = 2e-4) -> float:
    """Return the larger epsilon of the two directions: the privacy loss's distribution, composed by convolution.

    P = (1 - q) N(0, s²) + q N(1, s²) against Q = N(0, s²), integrated on a fine grid of the observation; losses are
    rounded to the nearest of a grid of ``width``, whose errors cancel over releases.
    """
    return max(_epsilon(noise, releases, delta, q, width, swapped) for swapped in (False, True))


def _epsilon(noise: float, releases: int, delta: float, q: float, width: float, swapped: bool) -> float:
    x = np.linspace(-12 * noise, 12 * noise + 1, 2_000_001)
    step = x[1] - x[0]
    plain = np.exp(-0.5 * (x / noise) ** 2) / (noise * math.sqrt(2 * math.pi)) * step
    ratio = np.log1p(q * np.expm1((x - 0.5) / noise**2)) if q < 1 else (x - 0.5) / noise**2
    mass, loss = (plain, -ratio) if swapped else (plain * np.exp(ratio), ratio)
    size = 1 << 20
    counts = np.zeros(size)
    np.add.at(counts, np.rint(loss / width).astype(np.int64) % size, mass)
    composed = np.fft.irfft(np.fft.rfft(counts) ** releases, size)
    losses = np.fft.fftfreq(size, 1 / size) * width
    order = np.argsort(losses)
    losses, composed = losses[order], np.maximum(composed[order], 0)
    above = np.cumsum(composed[::-1])[::-1]
    weighted = np.cumsum((composed * np.exp(-losses))[::-1])[::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        deltas = above - np.exp(losses) * weighted
    found = np.nonzero(deltas > delta)[0]
    return float(losses[found[-1]] + width) if found.size else 0.0
