"""Schedule: the factor of the base learning rate at each step of a run."""

from __future__ import annotations

import math
from typing import Protocol

from ps.dataclass import dataclass
from ps.number import number


class Shape(Protocol):
    """How the rate goes on once it is warm: what a schedule's name and numbers stand for."""

    @property
    def warmup(self) -> int:
        """The steps over which the rate rises to what ``factor`` says; 0 for none."""

    def factor(self, step: int) -> float:
        """Return the factor at ``step``, from 0, warm-up left out."""


@dataclass(frozen=True, slots=True)
class Constant:
    """1."""

    warmup: int = number(0, at_least=0, whole=True)

    def factor(self, step: int) -> float:
        """Return the factor at ``step``, from 0, warm-up left out."""
        return 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """``gamma`` to the number of times that ``every`` steps have passed."""

    every: int = number(at_least=1, whole=True)
    gamma: float = number(0.1, above=0, at_most=1)
    warmup: int = number(0, at_least=0, whole=True)

    def factor(self, step: int) -> float:
        """Return the factor at ``step``, from 0, warm-up left out."""
        return self.gamma ** (step // self.every)


@dataclass(frozen=True, slots=True)
class Cosine:
    """Half a cosine from 1 down to ``floor`` at step ``steps``, then ``floor``.

    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, without restarts.
    """

    steps: int = number(at_least=1, whole=True)
    floor: float = number(0.0, at_least=0, at_most=1)
    warmup: int = number(0, at_least=0, whole=True)

    def factor(self, step: int) -> float:
        """Return the factor at ``step``, from 0, warm-up left out."""
        done = min(1.0, step / self.steps)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, slots=True)
class Linear:
    """A line from 1 down to ``floor`` at step ``steps``, then ``floor``."""

    steps: int = number(at_least=1, whole=True)
    floor: float = number(0.0, at_least=0, at_most=1)
    warmup: int = number(0, at_least=0, whole=True)

    def factor(self, step: int) -> float:
        """Return the factor at ``step``, from 0, warm-up left out."""
        return 1 - (1 - self.floor) * min(1.0, step / self.steps)


@dataclass(frozen=True, slots=True)
class Warmup:
    """A line up to 1 over the first ``steps`` steps, then 1."""

    steps: int = number(at_least=1, whole=True)

    @property
    def warmup(self) -> int:
        """The steps of the warm-up: all there is to this schedule."""
        return self.steps

    def factor(self, step: int) -> float:
        """Return the factor at ``step``, from 0, warm-up left out."""
        return 1.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """A shape and its warm-up; called with a step, from 0, it returns the factor.

    With ``warmup=N`` the first N steps are also scaled by 1/N, 2/N, … 1. Every schedule counts from the start of
    the run, so that ``steps`` is the length of the whole run, warm-up included.

    >>> schedule = Schedule(Linear(steps=10, warmup=2))
    >>> [schedule(step) for step in (0, 1, 5, 10, 99)]
    [0.5, 0.9, 0.5, 0.0, 0.0]
    """

    shape: Shape

    def __call__(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.shape.warmup) if self.shape.warmup else 1.0
        return warm * self.shape.factor(step)
