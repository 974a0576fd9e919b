"""The mean of the contributions, whatever their number of examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Mean:
    """``(g_1 + ... + g_n) / n``, added in the given order; the division is the factor."""

    def factor(self, examples: Sequence[float]) -> float:
        return 1 / len(examples)

    def combine(
        self, parts: Sequence[HostArray], examples: Sequence[float], out: HostArray, spare: HostArray
    ) -> HostArray:
        total = parts[0]
        for part in parts[1:]:
            total = np.add(total, part, out=out)
        return total
