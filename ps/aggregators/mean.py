"""The mean of the contributions, whatever number of examples they claim."""

from __future__ import annotations

from typing import ClassVar, Literal

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Mean:
    """``(x_1 + ... + x_n) / n``: nobody counts more by claiming more examples, but one may move it anywhere."""

    kind: ClassVar[Literal["fold"]] = "fold"
    least: ClassVar[int] = 1
    by_norm: ClassVar[bool] = False

    def models(self, contributions: int) -> int:
        """Return 1: the sum."""
        return 1

    def weight(self, examples: float) -> float:
        """Return 1."""
        return 1.0

    def scale(self, norm: float, typical: float) -> float:
        """Return 1."""
        return 1.0
