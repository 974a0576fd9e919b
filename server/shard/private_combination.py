"""PrivateCombination: the sum of one round's clipped deltas and its noise, for the chunks of one server.

Everything that a delta has is in it, or its job is refused: what is trained and buffers alike. Nothing but ``parts``
ever leaves, and that has noise; each call of it draws anew, with a key that is made for it and forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np

from ps.privacy.correlated_noise import CorrelatedNoise
from ps.privacy.grid import LEAST_CLIP, LEAST_NOISE, MOST_CLIP, MOST_NOISE, step_of, to_steps
from ps.privacy.noise import Entropy, draw, new_key
from ps.protocol.layout import Chunk
from ps.protocol.messages import RoundOrder
from ps.server.shard.combination import BLOCK, Counted, Factors
from ps.server.shard.staged import read
from ps.xp import HostArray


class PrivateCombination:
    """Takes contributions in the order of the ledger, each with the same weight, and adds them in whole steps."""

    def __init__(
        self,
        denominator: int,
        chunks: Mapping[int, Chunk],
        entropy: Entropy = os.urandom,
        correlated: CorrelatedNoise | None = None,
    ) -> None:
        """``denominator``: what sums are divided by, however many contributions there are. ``correlated``: the keys of
        noise that goes on from round to round, if it does."""
        self._correlated = correlated
        self._denominator = denominator
        self._chunks = chunks
        self._entropy = entropy
        self._sums: dict[int, HostArray] = {}
        self._clip = 0.0
        self.count = 0

    ready = True
    """The sum can be read at any time."""
    clipped = 0.0
    """Of the elements none was clipped by a client: servers do it, and nobody is told how much."""

    def refusal(self, entries: Iterable[Factors], order: RoundOrder, *, complete: bool) -> str:
        """Return why these entries cannot be taken, or combined as ordered where all are here then; or nothing."""
        if not LEAST_CLIP <= order.clip <= MOST_CLIP:
            return f"a clip of {order.clip:g}, and this job has differential privacy"
        if self.count and order.clip != self._clip:
            return f"a clip of {order.clip:g} after contributions were held to {self._clip:g}"
        for weight, scale, bound in entries:
            if (weight, scale) != (1.0, 1.0) or not 0 <= bound <= 1:
                return f"an entry times {weight:g}, {scale:g} and {bound:g}, but each client counts once and is clipped"
        if order.phase == "measure":
            return "distances are to be measured, and this job has differential privacy"
        noise = order.noise / order.clip
        if complete and order.phase == "prepare" and not LEAST_NOISE / 2 <= noise <= 2 * MOST_NOISE:
            return f"noise of {order.noise:g} for a clip of {order.clip:g}"
        return ""

    def add(self, counted: Counted) -> None:
        """Take one contribution, with the clip that it was held to."""
        self.count += 1
        self._clip = counted.clip
        for index, part in counted.parts.items():
            sums = self._sums.get(index)
            if sums is None:
                sums = self._sums[index] = np.zeros(self._chunks[index].size, np.int64)
            room = np.empty(min(BLOCK, sums.size), self._chunks[index].dtype)
            for lo in range(0, sums.size, BLOCK):
                hi = min(lo + BLOCK, sums.size)
                sums[lo:hi] += to_steps(read(part, lo, hi, room[: hi - lo]), counted.bound, counted.clip)

    def distances(self) -> HostArray:
        """Raise RuntimeError: there are none, and no order for them is taken."""
        raise RuntimeError("distances between deltas are not for anybody, with differential privacy")

    def lacks(self, order: RoundOrder) -> str:
        """Return why there can be no noise for this order, or nothing."""
        return self._correlated.refusal(order.sequence, order.row) if self._correlated is not None else ""

    def parts(self, order: RoundOrder) -> dict[int, HostArray | None]:
        """Return the mean of each chunk with noise: 1-D, of its dtype. Each call draws noise of its own."""
        key, step = new_key(self._entropy), step_of(order.clip)
        if self._correlated is not None:
            self._correlated.begin(order.sequence, order.row)
        return {index: self._noised(index, key, order.noise / step, step) for index in self._chunks}

    def _noised(self, index: int, key: bytes, deviation: float, step: float) -> HostArray:
        chunk = self._chunks[index]
        if self._correlated is None:
            noised = draw(key, index, chunk.size, deviation)
        else:  # of a sum of whole steps: rounding it, noise included, is rounding the noise
            noised = np.rint(self._correlated.draw(index, chunk.size, deviation)).astype(np.int64)
        if index in self._sums:
            noised += self._sums[index]
        return np.multiply(noised, step / self._denominator, dtype=np.float64).astype(chunk.dtype)
