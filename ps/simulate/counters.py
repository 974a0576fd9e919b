"""Counters: what the clients of a simulation did and moved, counted as it happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import field

import numpy as np

from ps.dataclass import dataclass
from ps.xp import HostArray


@dataclass(slots=True)
class Counters:
    """Bytes up and down of each client, and counts of tasks: trained, accepted, broken off, refused by reason."""

    up: HostArray
    down: HostArray
    trained: int = 0
    accepted: int = 0
    dropped: int = 0
    polls: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, clients: int) -> Counters:
        """Return the counters of clients that did nothing yet."""
        return cls(np.zeros(clients, np.int64), np.zeros(clients, np.int64))
