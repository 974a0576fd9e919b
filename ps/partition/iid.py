"""Equal shares by chance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.partition.owners import dealt, demand, shares
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class IID:
    """Shuffle, and give each client an equal part, to within one example."""

    by_label: ClassVar[bool] = False
    divides: ClassVar[bool] = True

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return the shares; DataError when clients are more than examples."""
        demand(len(classes), clients)
        return shares(dealt(len(classes), clients, rng), clients)
