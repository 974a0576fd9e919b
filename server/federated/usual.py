"""Usual: what deltas' norms and clients' claims typically are, against which each new one is held."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

KNOWN = 3
"""Contributions that must have been seen before one can be told to be unusual."""
REMEMBERED = 100


class Usual:
    """Medians over the last contributions, those that were refused included: a few cannot move a median far."""

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=REMEMBERED)
        self.examples: deque[float] = deque(maxlen=REMEMBERED)
        self.counts: deque[int] = deque(maxlen=REMEMBERED)

    def see(self, norm: float, examples: float, steps: int) -> None:
        """Take one contribution's numbers."""
        self.norms.append(norm)
        self.examples.append(examples)
        self.counts.append(steps)

    @property
    def known(self) -> bool:
        """Whether there are enough of them."""
        return len(self.norms) >= KNOWN

    @property
    def norm(self) -> float:
        """The median L2 norm; 0 when none was seen."""
        return statistics.median(self.norms) if self.norms else 0.0

    @property
    def claim(self) -> float:
        """The median number of examples; 0 when none was seen."""
        return statistics.median(self.examples) if self.examples else 0.0

    @property
    def steps(self) -> float:
        """The median number of local steps; 0 when none was seen."""
        return statistics.median(self.counts) if self.counts else 0.0

    def dump(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return {"norms": list(self.norms), "examples": list(self.examples), "steps": list(self.counts)}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self.norms.extend(values["norms"])
        self.examples.extend(values["examples"])
        self.counts.extend(values["steps"])
