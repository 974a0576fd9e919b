"""FrozenModuleCheck: notices that a script trains a foreign library's module whose weights never change."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps.protocol.layout import Layout
from ps.xp import Array, HostArray

log = logging.getLogger("ps.worker")

STEPS = 20
"""Steps after which it is looked: a schedule's warm-up may begin with none that moves a weight."""


class FrozenModuleCheck:
    """One tensor that a script gave by DLPack, which is its module's own memory, for as long as it is not sure."""

    def __init__(self, given: Mapping[str, Any], arrays: Mapping[str, Array], trained: Layout) -> None:
        """``arrays`` are the ``given`` tensors as arrays of ours. The smallest is watched, for the memory it holds."""
        foreign = [
            (array.nbytes, tensor.name)
            for tensor in trained.tensors
            if tensor.size
            and not isinstance(given[tensor.name], np.ndarray)
            and hasattr(given[tensor.name], "__dlpack__")
            and isinstance(array := arrays[tensor.name], np.ndarray)
        ]
        self._name = min(foreign)[1] if foreign else ""
        self._own: HostArray | None = arrays[self._name] if foreign else None
        self._first: HostArray | None = arrays[self._name].copy() if foreign else None

    def look(self, steps: int, params: Mapping[str, Array]) -> None:
        """After enough steps, warn when the weights have changed and the script's own tensor has not."""
        if self._own is None or self._first is None or steps < STEPS:
            return
        unchanged = np.array_equal(self._own, self._first)
        moved = isinstance(now := params[self._name], np.ndarray) and not np.array_equal(now, self._first)
        if unchanged and moved:
            log.warning(
                "after %d steps the tensor %r that was given to kv.init is as it was, though the weights have changed: "
                "kv.init returns new arrays, and a module trains only if they are copied into it before each forward "
                "pass (README, 'read-only')",
                steps,
                self._name,
            )
        self._own = self._first = None
