"""The mean of each element without its largest and smallest values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from ps.aggregators.middle import middle_mean
from ps.dataclass import dataclass
from ps.number import number
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Each element's mean over the contributions without the share ``beta`` that is largest and that is smallest.

    Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates, ICML 2018, option II. Where
    ``beta n`` is no whole number one more is left out at either end, as long as something remains: with 0.1, one of
    five contributions does no harm either.
    """

    kind: ClassVar[Literal["combine"]] = "combine"
    least: ClassVar[int] = 1

    beta: float = number(0.1, at_least=0, below=0.5)

    def models(self, contributions: int) -> int:
        """Return all of them."""
        return contributions

    def cut(self, contributions: int) -> int:
        """Return how many values are left out at either end."""
        # 0.07 * 100 is 7.000000000000001, and seven are meant.
        return min(math.ceil(self.beta * contributions - 1e-9), (contributions - 1) // 2)

    def combine(self, parts: Sequence[HostArray], out: HostArray) -> None:
        """Write the trimmed means."""
        middle_mean(parts, self.cut(len(parts)), out)
