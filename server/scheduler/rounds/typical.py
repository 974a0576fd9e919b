"""Typical: what deltas' norms and clients' claims typically are, against which each new one is held."""

from __future__ import annotations

import bisect
from collections import deque
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
        self.norms, self.examples, self.counts, self.influences = _Last(), _Last(), _Last(), _Last()
        self._dumped = {
            "norms": self.norms,
            "examples": self.examples,
            "steps": self.counts,
            "influences": self.influences,
        }

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
        return self.norms.median

    @property
    def claim(self) -> float:
        """The median number of examples; 0 when none was seen."""
        return self.examples.median

    @property
    def steps(self) -> float:
        """The median number of local steps; 0 when none was seen."""
        return self.counts.median

    @property
    def influence(self) -> float:
        """The upper quartile of influences, 0 when none was seen: one of four, or of ten, cannot set it.

        Of few it is known less well: of three it counts twice.
        """
        return self.influences.large

    @property
    def many_steps(self) -> float:
        """The upper quartile of local steps, as that of influences."""
        return self.counts.large

    def dump(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        return {name: list(last.values) for name, last in self._dumped.items()}

    def load(self, values: dict[str, Any]) -> None:
        """Take what ``dump`` returned."""
        for name, last in self._dumped.items():
            for value in values[name]:
                last.append(value)


class _Last:
    """The last numbers as they came, and the same in order: each verdict asks several times where the middle is."""

    def __init__(self) -> None:
        self.values: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self.values)

    def append(self, value: float) -> None:
        """Take a number, and forget the oldest of too many."""
        self.values.append(value)
        bisect.insort(self._sorted, value)
        if len(self.values) > REMEMBERED:
            self._sorted.remove(self.values.popleft())

    @property
    def median(self) -> float:
        """The number in the middle, or the mean of the two that are; 0 when there is none."""
        half, odd = divmod(len(self._sorted), 2)
        if odd:
            return self._sorted[half]
        return (self._sorted[half - 1] + self._sorted[half]) / 2 if half else 0.0

    @property
    def large(self) -> float:
        """The upper quartile, or more where there are few numbers; 0 when there is none."""
        count = len(self._sorted)
        return self._sorted[int(QUARTER * (count - 1))] * (1 + COMPARED / count) if count else 0.0
