"""Chance that depends on a job's seed and a purpose only, and on no other use of the same seed."""

from __future__ import annotations

import numpy as np

_WHO = int.from_bytes(b"partition", "big")

DIVISION = 1
"""Who holds what."""

NOISE = 2
"""The distortion of a client's own examples."""

TEST_NOISE = 3
"""The distortion of the test examples that a client is judged by."""

COUNTERPART = 4
"""The choice of these test examples."""


def generator(seed: int, purpose: int, client: int = 0) -> np.random.Generator:
    """Return the random numbers of one purpose, for one client where each has its own.

    The same on every machine with the same version of NumPy.
    """
    return np.random.default_rng((_WHO, seed, purpose, client))
