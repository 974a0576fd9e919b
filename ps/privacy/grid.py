"""The grid on which deltas are added and noise is drawn: integers, so that what is published is what was accounted.

The noise of a floating-point sum leaks through its low bits (Mironov, CCS 2012). Here every element of a clipped delta
becomes a whole number of steps of a grid, towards zero, so that no norm grows by it; whole numbers are added exactly in
any order; the noise is a whole number of steps too. A Gaussian that is rounded to a grid on which the sum already lies
is the rounding of their sum, and so reveals no more than the continuous mechanism that is accounted.
"""

from __future__ import annotations

import math

import numpy as np

from ps.xp import HostArray

STEPS = 24
"""A clip has about 2^STEPS steps: as fine as float32 itself is there."""
MARGIN = 2.0**-20
"""Deltas are brought below the clip by so much of it: more than all that is lost in computing norms and products."""
LEAST_CLIP, MOST_CLIP = 1e-15, 1e15
LEAST_NOISE, MOST_NOISE = 1e-3, 1e6
"""Noise multipliers, at most: ten standard deviations are then some 2^47 steps, and sums stay far below 2^63."""


def step_of(clip: float) -> float:
    """Return the width of a step for a clip: a power of two, so that products with it are exact."""
    return 2.0 ** (math.floor(math.log2(clip)) - STEPS)


def bound_of(norm: float, clip: float) -> float:
    """Return what a delta of this L2 norm is multiplied with so that it is within the clip: at most 1."""
    most = clip * (1 - MARGIN)
    return 1.0 if norm <= most else most / norm


def to_steps(part: HostArray, bound: float, clip: float) -> HostArray:
    """Return a part times its bound in whole steps towards zero, int64.

    ``part``: 1-D, float32 or float64, finite. No element is more than a clip has steps, whatever a norm said.
    """
    most = clip / step_of(clip)
    steps = np.multiply(part, bound / step_of(clip), dtype=np.float64)
    return np.clip(np.trunc(steps, out=steps), -most, most, out=steps).astype(np.int64)
