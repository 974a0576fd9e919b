"""The mean of the contributions, whatever their number of examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Mean:
    """``out = (g_1 + ... + g_n) / n``, added in the given order."""

    def combine(self, parts: Sequence[HostArray], examples: Sequence[float], out: HostArray) -> None:
        if len(parts) == 1:
            np.copyto(out, parts[0])
            return
        np.add(parts[0], parts[1], out=out)
        for part in parts[2:]:
            out += part
        out *= out.dtype.type(1 / len(parts))
