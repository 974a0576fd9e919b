"""Typical: what deltas' norms and clients' claims typically are, against which each new one is held."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection
from typing import Any

from ps.protocol.messages.federated import COMPARED

REMEMBERED = 100
QUARTER = 0.75
"""The share of contributions with less influence than what stands for a large one."""


class Typical:
    """Medians over the last contributions, those that were refused included: a few cannot move a median far.

    Of influence it is the upper quartile: where some clients have many more examples than others, the median is small.
    """

    def __init__(self) -> None:
        self.norms: deque[float] = deque(maxlen=REMEMBERED)
        self.examples: deque[float] = deque(maxlen=REMEMBERED)
        self.counts: deque[int] = deque(maxlen=REMEMBERED)
        self.influences: deque[float] = deque(maxlen=REMEMBERED)

    def see(self, examples: float, steps: int) -> None:
        """Take what one contribution claims."""
        self.examples.append(examples)
        self.counts.append(steps)

    def measure(self, norm: float, influence: float) -> None:
        """Take what the same contribution is: the norm of its delta as it is combined, and its weight times that."""
        self.norms.append(norm)
        self.influences.append(influence)

    @property
    def known(self) -> bool:
        """Whether there are enough of them."""
        return len(self.norms) >= COMPARED

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

    @property
    def influence(self) -> float:
        """The upper quartile of influences, 0 when none was seen: one of four, or of ten, cannot set it.

        Of few it is known less well: of three it counts twice.
        """
        return _large(self.influences)

    @property
    def many_steps(self) -> float:
        """The upper quartile of local steps, as that of influences."""
        return _large(self.counts)

    def dump(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return {
            "norms": list(self.norms),
            "examples": list(self.examples),
            "steps": list(self.counts),
            "influences": list(self.influences),
        }

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned."""
        self.norms.extend(values["norms"])
        self.examples.extend(values["examples"])
        self.counts.extend(values["steps"])
        self.influences.extend(values["influences"])


def _large(values: Collection[float]) -> float:
    if not values:
        return 0.0
    return sorted(values)[int(QUARTER * (len(values) - 1))] * (1 + COMPARED / len(values))
