"""The mean weighted by the number of examples each gradient was computed from (McMahan et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """``out = (e_1 g_1 + ... + e_n g_n) / (e_1 + ... + e_n)``; all-zero weights count as equal."""

    def combine(self, parts: Sequence[HostArray], examples: Sequence[float], out: HostArray) -> None:
        total = float(sum(examples))
        shares = [e / total for e in examples] if total > 0 else [1 / len(parts)] * len(parts)
        kind = out.dtype.type
        np.multiply(parts[0], kind(shares[0]), out=out)
        for part, share in zip(parts[1:], shares[1:], strict=True):
            out += part * kind(share)
