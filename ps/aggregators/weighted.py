"""The mean weighted by the number of examples that each client says it has."""

from __future__ import annotations

from typing import ClassVar, Literal

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Weighted:
    """``(e_1 x_1 + ... + e_n x_n) / (e_1 + ... + e_n)``.

    McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017. What a
    client claims is believed, within the bounds that the caller sets.
    """

    kind: ClassVar[Literal["fold"]] = "fold"
    least: ClassVar[int] = 1
    by_norm: ClassVar[bool] = False

    def models(self, contributions: int) -> int:
        """Return 1: the sum."""
        return 1

    def weight(self, examples: float) -> float:
        """Return the number of examples."""
        return examples

    def scale(self, norm: float, typical: float) -> float:
        """Return 1."""
        return 1.0
