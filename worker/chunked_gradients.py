"""ChunkedGradients: one step's gradients as a participation sends them: it does not know of what they are made."""

from __future__ import annotations

from typing import Protocol

from ps.protocol.layout import Chunk
from ps.xp import Array


class ChunkedGradients(Protocol):
    """One step's gradients, chunk by chunk."""

    def chunk(self, chunk: Chunk) -> Array: ...

    def absent(self, chunk: int) -> tuple[int, ...]: ...

    def lacks(self, chunk: int) -> bool: ...

    def norm_squared(self) -> float: ...
