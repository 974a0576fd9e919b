"""A few labels for each client: shards of the examples sorted by label."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ps.dataclass import dataclass
from ps.number import MOST_CLIENTS, number
from ps.partition.owners import demand, shares
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Shards:
    """Sort by label, cut into ``count`` shards for each client, and give each that many at random.

    McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017: 100
    clients of MNIST have 2 of 200 shards of 300. Most of them hold two labels; some have one, and where a shard
    lies across a border between labels three or four. Examples of one label are in random order.
    """

    by_label: ClassVar[bool] = True
    divides: ClassVar[bool] = True

    count: int = number(2, at_least=1, at_most=MOST_CLIENTS, whole=True)

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return the shares, equal to within ``count`` examples; DataError when shards are more than examples."""
        n, number_of_shards = len(classes), self.count * clients
        demand(n, clients, self.count, "shard")
        order = rng.permutation(n)
        order = order[np.argsort(classes[order], kind="stable")]
        holder = rng.permutation(np.arange(number_of_shards) % clients)
        owners = np.empty(n, np.int64)
        owners[order] = holder[np.arange(n) * number_of_shards // n]
        return shares(owners, clients)
