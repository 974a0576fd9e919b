"""The mean weighted by the number of examples each gradient was computed from (McMahan et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """``(e_1 g_1 + ... + e_n g_n) / (e_1 + ... + e_n)``; all-zero weights count as equal.

    Weights are taken relative to the largest and the factor is ``largest / total``: gradients of full batches, mostly
    all of them, are added without a multiplication.
    """

    def factor(self, examples: Sequence[float]) -> float:
        most = max(examples)
        return 1 / sum(weight / most for weight in examples) if most > 0 else 1 / len(examples)

    def combine(
        self, parts: Sequence[HostArray], examples: Sequence[float], out: HostArray, spare: HostArray
    ) -> HostArray:
        most = max(examples)
        total = None
        for part, weight in zip(parts, examples, strict=True):
            term = part if weight == most else np.multiply(part, weight / most, out=out if total is None else spare)
            total = term if total is None else np.add(total, term, out=out)
        assert total is not None
        return total
