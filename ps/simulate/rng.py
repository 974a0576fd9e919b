"""Chance without a state: a number drawn from (seed, purpose, client, …), the same whoever asks and however often."""

from __future__ import annotations

import math
from statistics import NormalDist

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_STANDARD = NormalDist()


def word(*key: int) -> int:
    """Return 64 random bits that only ``key``, whole numbers from 0 on, decides.

    Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014: one step for each number.
    """
    bits = 0
    for part in key:
        bits = (bits + part * 0xD1342543DE82EF95 + _GOLDEN) & _MASK
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
        bits ^= bits >> 31
    return bits


def uniform(*key: int) -> float:
    """Return a number above 0 and below 1."""
    return ((word(*key) >> 12) + 0.5) / (1 << 52)


def exponential(mean: float, *key: int) -> float:
    """Return a duration with this mean, without memory."""
    return -mean * math.log(uniform(*key))


def lognormal(median: float, sigma: float, *key: int) -> float:
    """Return a number whose logarithm is normal around that of ``median`` with deviation ``sigma``."""
    return median * math.exp(sigma * _STANDARD.inv_cdf(uniform(*key)))


def normal(*key: int) -> float:
    """Return a number of the standard normal distribution."""
    return _STANDARD.inv_cdf(uniform(*key))
