"""FrozenModuleCheck: notices that a script trains a foreign library's module whose weights never change."""

from __future__ import annotations

import logging
import sys
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
        self._names = [name for _, name in foreign]
        self._held: dict[str, int] = {}
        self._name = min(foreign)[1] if foreign else ""
        self._own: HostArray | None = arrays[self._name] if foreign else None
        self._first: HostArray | None = arrays[self._name].copy() if foreign else None

    def begin(self, params: Mapping[str, Array]) -> None:
        """Note how often each array of the weights is held before the script has it."""
        self._held = {name: sys.getrefcount(params[name]) for name in self._names}

    def look(self, steps: int, params: Mapping[str, Array]) -> None:
        """After enough steps, warn when the weights have changed and the script's own tensor has not."""
        if self._own is None or self._first is None or steps < STEPS:
            return
        are_held = self._are_held(params)
        unchanged = np.array_equal(self._own, self._first)
        moved = isinstance(now := params[self._name], np.ndarray) and not np.array_equal(now, self._first)
        if unchanged and moved and not are_held:
            log.warning(
                "after %d steps the tensor %r that was given to kv.init is as it was, though the weights have changed: "
                "kv.init returns new arrays, and a module trains only if they are copied into it before each forward "
                "pass (README, 'read-only')",
                steps,
                self._name,
            )
        self._own = self._first = None

    def _are_held(self, params: Mapping[str, Array]) -> bool:
        """Whether more than the script's mapping holds each of the arrays that it was given, as a module does whose
        storage was bound to them: then its old storage stays as it was, and it trains all the same."""
        return all(sys.getrefcount(params[name]) > self._held[name] + 1 for name in self._names)
