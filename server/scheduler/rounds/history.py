"""History: what each published round was, as plain values for the status, the record of a run and reports."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ps.protocol.fitting import printable
from ps.server.scheduler.rounds.task import ACCEPTED, SPARE, Task

MOST_HISTORY = 1000
"""Rounds of which an account is kept, at most."""
SHOWN = 100
"""Of these, those that the status shows."""
MOST_METRICS = 32
MOST_CLIENTS = 100
"""Clients of a round that are named, at most."""
MOST_NAME = 100
"""Characters of a metric's name."""
_LARGE = 1e290


def entry(
    round: int, attempt: int, at: float, seconds: float, tasks: Iterable[Task], refused: Counter[str]
) -> dict[str, Any]:
    """Return one round. ``at`` is when it was published, in seconds since the rounds began."""
    tasks = list(tasks)
    accepted = [task for task in tasks if task.state == ACCEPTED]
    examples = [task.examples for task in accepted]
    metrics = {key for task in accepted for key in task.report}
    return {
        "round": round,
        "attempt": attempt,
        "at": round_to(at),
        "seconds": round_to(seconds),
        "selected": len(tasks),
        "accepted": len(accepted),
        "refused": dict(refused),
        "spare": sum(task.state == SPARE for task in tasks),
        "examples": sum(examples),
        "steps": sum(task.steps for task in accepted),
        "clients": sorted(task.rank for task in accepted)[:MOST_CLIENTS],
        "metrics": {key: distribution(_values(accepted, key)) for key in sorted(metrics)[:MOST_METRICS]},
    }


def numbers(report: Mapping[str, Any]) -> dict[str, float]:
    """Return what can be used of a client's report: finite numbers, not too many, under names that are not too long."""
    found = ((printable(key), _number(value)) for key, value in report.items() if len(key) <= MOST_NAME)
    return dict(itertools.islice(((key, value) for key, value in found if value is not None), MOST_METRICS))


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Return mean, extremes and percentiles of what clients reported."""
    largest = max(map(abs, values))
    unit = largest if largest > _LARGE else 1.0  # in which neither their sum nor a difference overflows
    scaled = [value / unit for value in values]
    low, tenth, half, ninth, high = (float(q) for q in np.percentile(scaled, (0, 10, 50, 90, 100)))
    mean = math.fsum(scaled) / len(values)
    found = {"mean": mean, "min": low, "p10": tenth, "p50": half, "p90": ninth, "max": high}
    return {**{key: round_to(value * unit, 6) for key, value in found.items()}, "n": len(values)}


def round_to(value: float, digits: int = 3) -> float:
    """Return a number that is short to read."""
    return round(value, digits)


def _values(tasks: Iterable[Task], key: str) -> list[float]:
    return [task.report[key] for task in tasks if key in task.report]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
