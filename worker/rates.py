"""Rates: what this worker says of the learning rate, and the latest it has heard of it."""

from __future__ import annotations

from collections.abc import Sequence

from ps.protocol.messages.rate import UNSAID, Rate, latest


class Rates:
    """Keeps the latest word. All chunks of a step bring the same words, whichever server they go to."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._known = UNSAID
        self._own: Rate | None = None
        """What this worker's last step said, until an answer brings it, or a later word, back."""
        self._next: float | None = None
        """What was set since that step."""

    def set(self, lr: float) -> None:
        """From the next step on the base rate is ``lr``."""
        self._next = lr

    def hear(self, rates: Sequence[Rate]) -> None:
        """Take the words that came with weights."""
        self._known = latest((self._known, *rates))
        if self._own is not None and latest((self._own, self._known)) == self._known:
            self._own = None

    def step(self) -> tuple[Rate, ...]:
        """Return the words to go with all of a step: the latest that servers have passed on, then what is new, if any.

        What came too late to count is said again.
        """
        lr = self._own[2] if self._next is None and self._own is not None else self._next
        self._next = None
        if lr is None:
            return () if self._known == UNSAID else (self._known,)
        self._own = (self._known[0] + 1, self._rank, lr)
        return self._known, self._own
