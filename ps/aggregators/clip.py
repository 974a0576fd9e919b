"""The mean of contributions whose norm is held within a bound."""

from __future__ import annotations

from typing import ClassVar, Literal

from ps.dataclass import dataclass
from ps.number import number


@dataclass(frozen=True, slots=True)
class Clip:
    """The mean of ``x_i min(1, bound / |x_i|)``, each counting as one: none moves it by more than ``bound / n``.

    Sun et al., Can you really backdoor federated learning?, 2019. The bound is ``norm``; or, while that is 0, ``times``
    the median norm of recent contributions: with 1 it is the median of Andrew et al., Differentially private learning
    with adaptive clipping, NeurIPS 2021, though not by their private estimate. Until a norm is known nothing is
    clipped.
    """

    kind: ClassVar[Literal["fold"]] = "fold"
    least: ClassVar[int] = 1
    by_norm: ClassVar[bool] = True

    norm: float = number(0.0, at_least=0)
    times: float = number(1.0, above=0)

    def models(self, contributions: int) -> int:
        """Return 1: the sum."""
        return 1

    def weight(self, examples: float) -> float:
        """Return 1."""
        return 1.0

    def scale(self, norm: float, typical: float) -> float:
        """Return the factor, at most 1, that brings ``norm`` down to the bound."""
        bound = self.norm or self.times * typical
        return bound / norm if norm > bound > 0 else 1.0
