"""What differential privacy costs here: a thousand settings of the accountant recomputed, and the noise itself.

    python scripts/bench/privacy.py

The settings' delta is worked out by the closed form of the Gaussian mechanism (Balle and Wang, ICML 2018), without the
library that ps uses. The noise is that of a server's own combination, in a chi-square test over a thousand cells.
"""

from __future__ import annotations

import math
import platform
import sys
import time
from pathlib import Path

import numpy as np

from ps.privacy import noise_for
from ps.privacy.noise import draw, new_key

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

SETTINGS, ELEMENTS, CELLS = 1000, 10_000_000, 1000


def costs() -> tuple[int, float]:
    """Return how many settings cost more than was asked, and the least and most of delta over what was asked."""
    from support.gaussian_privacy import delta_of, settings

    over, least = 0, 1.0
    for eps, delta, rounds in settings(SETTINGS):
        share = delta_of(eps, math.sqrt(rounds) / noise_for(eps, delta, rounds)) / delta
        over, least = over + (share > 1), min(least, share)
    return over, least


def noise() -> tuple[float, float]:
    """Return the chance of noise this uneven, and the seconds for a million elements."""
    from support.chances import chi_square_of_normal

    began, deviation = time.perf_counter(), 3.5 * 2**24
    drawn = draw(new_key(), 0, ELEMENTS, deviation)
    seconds = time.perf_counter() - began
    return chi_square_of_normal(drawn / deviation, CELLS), seconds * 1e6 / ELEMENTS


if __name__ == "__main__":
    print(f"{platform.platform()}, Python {platform.python_version()}, NumPy {np.__version__}")
    over, least = costs()
    print(f"{SETTINGS} settings: {over} cost more than was asked; the least delta was {least:.4f} of that")
    chance, seconds = noise()
    print(f"{ELEMENTS:,} elements of noise: chi-square over {CELLS} cells p = {chance:.3f}")
    print(f"a million elements of noise: {seconds * 1e3:.1f} ms")
