"""Turns: the cases of one setup take turns, so that a change of the clock rate or a neighbour's load meets all."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from race.case import Case, Setup
from race.crew import Crew
from race.process import Failed, uninterrupted

PATIENCE = 60.0
"""Seconds a turn may take beyond what it is expected to."""


@dataclass(slots=True)
class Result:
    """What came of a case: the seconds a step took in each turn, or why there is no such figure."""

    case: Case
    steps: int = 0
    seconds: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def median(self) -> float:
        """Seconds a step takes, the median over turns; NaN when it failed."""
        return statistics.median(self.seconds) if self.seconds and not self.error else math.nan


@dataclass(slots=True)
class Table:
    """The results of one setup. ``part`` is the question it belongs to, ``title`` what stands above it.

    ``x`` is the field of the setup that a sweep changes; ``absent`` says why others did not take part.
    """

    part: str
    title: str
    setup: Setup
    results: list[Result]
    x: str = ""
    absent: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Return a case's seconds a step; NaN when it failed or did not take part."""
        return next((result.median for result in self.results if result.case.name == name), math.nan)


def take_turns(
    setup: Setup, cases: Sequence[Case], repeats: int, seconds: float, say: Callable[[str], None]
) -> list[Result]:
    """Return what the cases take for a step, in ``repeats`` turns of about ``seconds`` each.

    The order changes from round to round. A case that fails is reported, and the others go on. Cases that do not
    fit into memory together take turns in groups.
    """
    results = []
    for group in in_groups(setup, cases, available_memory()):
        crews: list[tuple[Result, Crew]] = []
        try:
            with uninterrupted():
                crews += [(Result(case), Crew(case, setup)) for case in group]
            results += [result for result, _ in crews]
            for result, crew in crews:
                say(f"starting {crew.case.name}")
                _attempt(_begin, crew, result, seconds)
            for number in range(repeats):
                say(f"round {number + 1} of {repeats}")
                for result, crew in random.Random(number).sample(crews, len(crews)):
                    if not result.error:
                        _attempt(_turn, crew, result, seconds)
        finally:
            for _, crew in crews:
                crew.close()
    return results


def in_groups(setup: Setup, cases: Sequence[Case], memory: float) -> list[list[Case]]:
    """Return the cases in as few groups as fit into memory, by what cases were seen to need."""
    each = (setup.nbytes * 2 + 150e6) * setup.workers + setup.nbytes + 100e6 * setup.servers
    room = int(max(1, min(len(cases), memory * 0.8 / each)))
    return [list(cases[first : first + room]) for first in range(0, len(cases), room)]


def available_memory() -> float:
    """Return the bytes of memory that are free for us; infinitely many where there is no telling."""
    try:
        with open("/proc/meminfo") as lines:  # noqa: PTH123
            return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf


def _begin(crew: Crew, result: Result, seconds: float) -> None:
    crew.start()
    once = min(crew.turn(1, 1, PATIENCE), crew.turn(2, 0, PATIENCE))  # the very first steps still warm up
    result.steps = max(1, min(20_000, round(seconds / once)))


def _turn(crew: Crew, result: Result, seconds: float) -> None:
    result.seconds.append(crew.turn(result.steps, 1 + result.steps // 10, PATIENCE + 20 * seconds))


def _attempt(action: Callable[[Crew, Result, float], None], crew: Crew, result: Result, seconds: float) -> None:
    try:
        action(crew, result, seconds)
    except (Failed, OSError) as error:
        result.error = " ".join(str(error).split())[:300] or type(error).__name__
        crew.close()
