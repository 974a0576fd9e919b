"""Rates: what this worker says of a group's learning rate and weight decay, and the latest it has heard of them."""

from __future__ import annotations

from collections.abc import Sequence

from ps.protocol.messages.rate import UNSAID, Rate, latest
from ps.protocol.ranges import MOST_STEPS


class Rates:
    """Keeps the latest word about one group. All chunks of it bring the same words, whichever server they go to."""

    def __init__(self, rank: int, lr: float, weight_decay: float) -> None:
        """``lr`` and ``weight_decay``: what counts until somebody says something else."""
        self._rank = rank
        self._known = UNSAID
        self._initial = lr, weight_decay
        self._own: Rate | None = None
        """What this worker's last step said, until an answer brings it, or a later word, back."""
        self._said: dict[str, float] = {}
        """Which of its numbers it meant by that."""
        self._next: dict[str, float] = {}
        """What was set since that step."""

    def set(self, lr: float | None = None, weight_decay: float | None = None) -> None:
        """From the next step on the base rate is ``lr``, and the decay ``weight_decay``; None: as it is."""
        given = {"lr": lr, "weight_decay": weight_decay}
        self._next.update({name: value for name, value in given.items() if value is not None})

    def hear(self, rates: Sequence[Rate]) -> None:
        """Take the words that came with weights."""
        self._known = latest((self._known, *rates))
        if self._own is not None and latest((self._own, self._known)) == self._known:
            self._own, self._said = None, {}

    def step(self) -> tuple[Rate, ...]:
        """Return the words to go with all of a step: the latest that servers have passed on, then what is new, if any.

        What came too late to count is said again.
        """
        self._said, self._next = {**self._said, **self._next}, {}
        if not self._said:
            return () if self._known == UNSAID else (self._known,)
        number, _, lr, weight_decay = self._known
        if not number:
            lr, weight_decay = self._initial
        lr, weight_decay = self._said.get("lr", lr), self._said.get("weight_decay", weight_decay)
        # only who lies says the last number there is; no word that others say counts after it
        self._own = min(number + 1, MOST_STEPS), self._rank, lr, weight_decay
        return self._known, self._own
