"""Workspace: scratch memory of the size that caches hold, for arithmetic block by block."""

from __future__ import annotations

import threading

import numpy as np

from ps.xp import HostArray

BLOCK_BYTES = 1 << 20
"""Bytes of one array per block: what five of them take fits the caches of today's servers, and calls into NumPy
no longer count. Measured with 10 M parameters, 2 MB of L2 and 32 MB of L3: 512 KB is 10 % slower, 256 KB 25 %, whole
arrays 45 %; 2 MB gains nothing. The same with four gradients to add, and with two threads, which smaller blocks would
make wait for the interpreter's lock between any two calls."""


class Workspace(threading.local):
    """Scratch blocks, reused from call to call; each thread sees its own."""

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self.block_bytes = block_bytes
        self._blocks: dict[tuple[np.dtype[np.floating], int], HostArray] = {}

    def elements(self, dtype: np.dtype[np.floating]) -> int:
        """Return how many elements a block holds."""
        return max(1, self.block_bytes // dtype.itemsize)

    def block(self, dtype: np.dtype[np.floating], number: int, count: int) -> HostArray:
        """Return the first ``count`` elements of a block: the driver's are 0 to 2, the gradient's reader may use 3."""
        found = self._blocks.get((dtype, number))
        if found is None or found.size < count:
            found = self._blocks[dtype, number] = np.empty(max(count, self.elements(dtype)), dtype)
        return found[:count]
