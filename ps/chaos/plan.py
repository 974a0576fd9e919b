"""Plan: which faults come when, as a function of a seed alone. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal

from ps.dataclass import dataclass

Action = Literal["kill", "stop", "slow"]
ACTIONS: tuple[Action, ...] = ("kill", "stop", "slow")


@dataclass(frozen=True, slots=True)
class Fault:
    """``at``: seconds after the beginning; ``choice``: in [0, 1), which of those that may be harmed; ``seconds``: for
    how long, of what does not last for ever."""

    at: float
    action: Action
    choice: float
    seconds: float

    def of(self, count: int) -> int:
        """Return which of so many it is."""
        return min(count - 1, int(self.choice * count))


def faults(seed: int, mtbf: float, actions: Sequence[Action], seconds: float) -> Iterator[Fault]:
    """Yield faults without end: a Poisson process, ``mtbf`` seconds apart on average, each of ``seconds`` on average.

    Each draws the same numbers whatever its kind, so that the times are the same with other actions.
    """
    dice, at = random.Random(seed), 0.0
    while True:
        at += dice.expovariate(1 / mtbf)
        action, choice, length = dice.random(), dice.random(), dice.uniform(0.5, 1.5)
        yield Fault(at, actions[int(action * len(actions))], choice, seconds * length)
