"""The median of each element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from ps.aggregators.middle import middle_mean
from ps.dataclass import dataclass
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Median:
    """Each element's median over the contributions; of an even number the mean of the middle two.

    Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates, ICML 2018, option I. Fewer
    than half of the contributions cannot move an element beyond what the others say of it.
    """

    kind: ClassVar[Literal["combine"]] = "combine"
    least: ClassVar[int] = 1

    def models(self, contributions: int) -> int:
        """Return all of them."""
        return contributions

    def combine(self, parts: Sequence[HostArray], out: HostArray) -> None:
        """Write the medians."""
        middle_mean(parts, (len(parts) - 1) // 2, out)
