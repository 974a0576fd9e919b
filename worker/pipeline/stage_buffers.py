"""StageBuffers: what a worker's layers write themselves (running statistics, counters), so that a step of which a part
is computed again counts in them once, and whoever takes the worker's place has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ps import xp
from ps.errors import UsageError
from ps.protocol.codec import MAX_FRAME
from ps.xp import Array, HostArray

UNIT = 8
"""Bytes of which there is a whole number."""


class StageBuffers:
    """These arrays, which layers change in place, as they were and as they are to be."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        """Raises UsageError for more than travels at once."""
        self._arrays = [arrays[name] for name in sorted(arrays)]
        size = sum(array.nbytes for array in self._arrays)
        if size > MAX_FRAME - UNIT:
            raise UsageError(
                f"buffers and counters of {size} bytes: with spares those of a worker travel to a server with each "
                f"step, and at most {MAX_FRAME - UNIT} bytes do. Cut the model into more stages"
            )
        self._before = self._after = self.packed()
        self._clock = -1
        """Of which step ``_before`` is the beginning."""

    def __bool__(self) -> bool:
        return bool(self._arrays)

    def packed(self) -> HostArray:
        """Return their bytes, one after the other; a copy."""
        parts = [xp.to_host(array).reshape(-1).view(np.uint8) for array in self._arrays]
        room = -sum(part.size for part in parts) % UNIT
        return np.concatenate([*parts, np.zeros(room, np.uint8)])

    def write(self, values: HostArray) -> None:
        """Let them be what ``packed`` returned. Raises UsageError for bytes that are not theirs."""
        if values.size != self._before.size:
            raise UsageError(f"{values.size} bytes of buffers, where this worker's layers have {self._before.size}")
        at = 0
        for array in self._arrays:
            part = values[at : at + array.nbytes].view(array.dtype).reshape(array.shape)
            xp.copy(part, array)
            at += array.nbytes

    def begin(self, clock: int) -> None:
        """A step begins, or begins again: then they are what they were."""
        if not self._arrays:
            return
        if clock == self._clock:
            self.write(self._before)
        else:
            self._clock, self._before = clock, self.packed()

    def end(self) -> HostArray:
        """A step was computed; return what they are now."""
        self._after = self.packed()
        return self._after

    def settle(self) -> None:
        """Let them be what they were when a step had been computed, whatever was begun since."""
        if self._arrays:
            self.write(self._after)
