"""CorrelatedNoise: the noise of one release after the other, made anew each time of the keys of the last few.

The keys are in this object and nowhere else: in no file, message or log. Whoever has lost them cannot go on with the
sequence: what it would add would not be the noise that is accounted for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ps.privacy.noise import Entropy, draw_normal, new_key
from ps.xp import HostArray


class CorrelatedNoise:
    """One server's keys."""

    def __init__(self, bands: Sequence[float], entropy: Entropy = os.urandom) -> None:
        """``bands``: what the noise of this release, the one before, … is multiplied with."""
        self._bands, self._entropy = tuple(bands), entropy
        self._sequence, self._row = -1, -1
        self._keys: list[bytes] = []
        """Of this release, of the one before, …, as far as they have any weight."""

    def refusal(self, sequence: int, row: int) -> str:
        """Return why there is no noise for this row of a sequence, or nothing. Each has its noise once."""
        follows = sequence == self._sequence and row == self._row + 1
        if follows or (sequence > self._sequence and row == 0):
            return ""
        return f"the keys of noise before row {row} of sequence {sequence} are not here"

    def begin(self, sequence: int, row: int) -> None:
        """Go on to a row. RuntimeError where it is refused."""
        if why := self.refusal(sequence, row):
            raise RuntimeError(why)
        if row == 0:
            self._keys.clear()
        self._sequence, self._row = sequence, row
        self._keys = [new_key(self._entropy), *self._keys][: len(self._bands)]

    def draw(self, stream: int, size: int, deviation: float) -> HostArray:
        """Return this row's noise, float64, ``deviation`` being that of its newest part. Streams are independent."""
        total = np.zeros(size)
        for band, key in zip(self._bands, self._keys, strict=False):
            total += band * deviation * draw_normal(key, stream, size)
        return total
