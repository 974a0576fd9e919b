"""Key: what chance depends on, so that the same run makes the same choices, whoever makes them and in what order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ps.dataclass import dataclass
from ps.xp import HostArray

DOWN = 1 << 32
"""The rank in keys of frames that a server sends to workers."""

EVERYBODY = (1 << 32) + 1
"""The rank in keys of choices that all members make alike."""

_PURPOSE = int.from_bytes(b"compress", "big")


@dataclass(frozen=True, slots=True)
class Key:
    """Names one encoding: the job's seed, the clock, the chunk's index, and the rank of who encodes it.

    On the way down the clock is the chunk's version and the rank ``DOWN``. All four are whole numbers from 0 on;
    the seed counts modulo 2^64.

    >>> Key(seed=0, clock=7, chunk=3, rank=1).words(2)
    array([8778678109896339993, 6051348139237856144], dtype=uint64)
    """

    seed: int
    clock: int
    chunk: int
    rank: int

    def shared(self) -> Key:
        """Return the key of a choice that does not depend on who makes it."""
        return replace(self, rank=EVERYBODY)

    def stream(self) -> np.random.Philox:
        """Return the words of this key, in order, as a bit generator: Philox4x64-10.

        Philox key: (seed, the bytes "compress" as a big-endian number); counter: (1, clock, chunk, rank) for the
        first four words, its first element counting up. Salmon et al., Parallel random numbers: as easy as
        1, 2, 3, SC 2011.
        """
        key = np.array([self.seed % (1 << 64), _PURPOSE], np.uint64)
        return np.random.Philox(key=key, counter=np.array([0, self.clock, self.chunk, self.rank], np.uint64))

    def words(self, count: int) -> HostArray:
        """Return the first ``count`` words, uint64."""
        return np.asarray(self.stream().random_raw(count))
