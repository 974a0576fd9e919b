"""Targets: what this system is meant to reach, as ratios within one run, and whether it did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from race.models import OURS, TORCH
from race.turns import Table

IN_PLACE = {"ps shm": 0.8, "ps shm, private params": 0.5, "ps shm, no NaN check": 0.9}
OVER_ECHO = {"ps shm": 0.8, "ps ipc": 1.6, "ps tcp": 1.6}


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that has to be ``at_least`` or ``at_most`` something; NaN when it was not measured."""

    what: str
    case: str
    ratio: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> str:
        """Return "reached", "missed" or "not measured"."""
        if math.isnan(self.ratio):
            return "not measured"
        good = self.ratio >= self.at_least if self.at_least is not None else self.ratio <= (self.at_most or 0)
        return "reached" if good else "missed"

    @property
    def bound(self) -> str:
        """Return the bound in words."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


def targets(
    tables: Sequence[Table], adam: Mapping[str, float], models: Mapping[str, Mapping[str, float]]
) -> list[Target]:
    """Return every target with what was measured for it. Of a limit or peer with several cases the best counts."""

    def seconds(part: str, *names: str) -> float:
        """Return the least of the cases' medians."""
        found = [table.median(name) for table in tables if table.part == part for name in names]
        return min((value for value in found if not math.isnan(value)), default=math.nan)

    gloo = ("gloo, 1 thread", "gloo, default threads")
    raw = ("raw tcp, threads", "raw tcp, poll")
    words = "1 worker: model GB/s over the update in place"
    rows = [
        Target(words, name, seconds("one", "in place") / seconds("one", name), aim) for name, aim in IN_PLACE.items()
    ]
    words = "2 workers: times as fast as Gloo"
    rows += [Target(words, name, seconds("two", *gloo) / seconds("two", name), 4) for name in IN_PLACE]
    words = "4 workers, 2 servers: times as fast as Gloo"
    rows += [Target(words, name, seconds("four", *gloo) / seconds("four", name), 6) for name in IN_PLACE]
    words = "1 worker: speed over raw tcp sockets"
    rows.append(Target(words, "ps tcp", seconds("one", *raw) / seconds("one", "ps tcp"), 0.85))
    words, echo = "10 k parameters: time over a pyzmq ipc echo", seconds("latency", "pyzmq echo, ipc")
    rows += [Target(words, name, seconds("latency", name) / echo, at_most=aim) for name, aim in OVER_ECHO.items()]
    fused, ours = adam.get("fused loop", math.nan), adam.get("ps.optim", math.nan)
    rows.append(Target("Adam: speed over a fused single-pass loop", "ps.optim", fused / ours, 0.95))
    rows += [
        Target(f"{name}: time over torch's", OURS, taken[OURS] / taken[TORCH], at_most=1.2)
        for name, taken in models.items()
    ]
    return rows
