"""Rate: a word of one worker about the learning rate of a group of tensors, and which of several words counts.

Words travel with gradients and come back with weights, so all who take part in the next step know the latest. They are
numbered like events by Lamport's clock (1978): who says something new gives it the number after the latest it knows.
A word is about the group of tensors whose chunk it goes with, and says its weight decay too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from ps.protocol.ranges import Count, Decay, LearningRate, Rank

Rate: TypeAlias = tuple[Count, Rank, LearningRate, Decay]
"""(number, rank of the worker that said it, base learning rate, weight decay); numbers begin at 1."""

UNSAID: Rate = (0, 0, 0.0, 0.0)
"""Nobody has said anything: the optimizer's own numbers count."""


def latest(rates: Iterable[Rate]) -> Rate:
    """Return the word that counts: the one with the highest number, and of several that of the lowest rank."""
    return max(rates, key=_order, default=UNSAID)


def _order(rate: Rate) -> tuple[int, int, float, float]:
    number, rank, lr, decay = rate
    return number, -rank, lr, decay
