"""Holding: what one worker holds of a course of batches, and how far it is with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Any

from ps.dataclass import dataclass
from ps.server.scheduler.cells import Run, count, split

Point = tuple[int, int]
"""(how many cells were used, the clock of the step that the next one is for)."""


@dataclass(slots=True)
class Holding:
    """A worker's cells in the order in which it uses them, counted from the first that it ever got of the course.

    ``runs`` begin with cell number ``first``; those before are used and known to be in every later checkpoint.
    """

    rank: int
    runs: list[Run] = field(default_factory=list)
    first: int = 0
    used: int = 0
    clock: int = 0
    points: list[Point] = field(default_factory=list)
    """While a checkpoint is made: with which clocks cells were used, from ``first`` on."""
    back: bool = False
    """Whether it has given back what it did not use, and wants no more."""

    @property
    def issued(self) -> int:
        """How many it was given in all."""
        return self.first + count(self.runs)

    @property
    def left(self) -> int:
        """How many of these it has not used."""
        return self.issued - self.used

    def unused(self) -> list[Run]:
        """Return those."""
        return split(self.runs, self.used - self.first)[1]

    def begin(self, clock: int) -> None:
        """It was given its first cells, when its next step was that of ``clock``."""
        if not self.points:
            self.clock, self.points = clock, [(self.used, clock)]

    def hear(self, used: int, clock: int, *, frozen: bool) -> bool:
        """Take how far it says to be; return whether that is new. ``frozen``: a checkpoint is being made."""
        used = min(used, self.issued)
        if used < self.used or (used == self.used and clock <= self.clock):
            return False  # it was said before what is known, or is no news
        if frozen and clock - self.clock != used - self.used:
            self.points.append((used, clock))
        self.used, self.clock = used, clock
        if not frozen:
            self.settle()
        return True

    def settle(self) -> None:
        """Forget what is used: it counts in every checkpoint from now on."""
        self.runs, self.first = self.unused(), self.used
        self.points = [(self.used, self.clock)]

    def give_back(self) -> list[Run]:
        """Return what is not used, and hold it no more."""
        kept, unused = split(self.runs, self.used - self.first)
        self.runs, self.back = kept, True
        return unused

    def counted(self, clocks: int, more: Iterable[Point], *, beyond: bool) -> int:
        """Return how many cells are in a checkpoint that has so many of this worker's clocks.

        ``more``: further points, as the worker itself has told them; ``beyond``: also cells of which it has not said
        that they are used are counted, by their clocks.
        """
        points = sorted({*self.points, (self.used, self.clock), *((u, c) for u, c in more if u >= self.first)})
        found = self.first
        for place, (used, clock) in enumerate(points):
            end = points[place + 1][0] if place + 1 < len(points) else self.issued
            if clocks >= clock:
                found = max(found, min(end, used + clocks - clock))
        return max(self.first, min(found, self.issued if beyond else self.used))

    def dump(self) -> list[Any]:
        """Return it as plain values."""
        return [self.rank, self.runs, self.first, self.used, self.clock, self.points, self.back]

    @staticmethod
    def load(values: list[Any]) -> Holding:
        """Return what ``dump`` wrote."""
        rank, runs, first, used, clock, points, back = values
        return Holding(rank, [(a, b, c) for a, b, c in runs], first, used, clock, [(u, c) for u, c in points], back)
