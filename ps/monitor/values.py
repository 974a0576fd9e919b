"""Values of a status as they may be shown: bounded, printable, and such that they are valid JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ps.json_lines import finite
from ps.protocol.fitting import printable
from ps.text import shortened

MOST_TEXT = 200
"""Characters of a text."""
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""What a worker says of a metric that is no finite number, and how that is shown."""


def text(value: Any, most: int = MOST_TEXT) -> str:
    """Return anything as text in one line."""
    return shortened(printable(str(value)[: most + 1]), most)


def amount(value: Any) -> float:
    """Return a finite number, 0 where there is none."""
    return finite(value) or 0.0


def short(value: float | None, digits: int = 6) -> float | None:
    """Return a number that is short to write."""
    return None if value is None else float(f"{value:.{digits}g}") if isinstance(value, float) else value


def metric(value: Any) -> float | str | None:
    """Return a metric as it is shown: a number, or a text if it is one that is not finite; None for anything else."""
    if isinstance(value, str):
        return NOT_FINITE.get(value)
    if isinstance(value, float) and not math.isfinite(value):
        return NOT_FINITE[str(value)]
    return short(finite(value))


def mean(values: Iterable[float]) -> float | None:
    """Return the mean; None of nothing. It does not overflow."""
    found = list(values)
    return sum(value / len(found) for value in found) if found else None


def rows(value: Any) -> list[Mapping[str, Any]]:
    """Return the maps of what should be a list of maps."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def mapping(value: Any) -> Mapping[str, Any]:
    """Return what should be a map; an empty one where it is none."""
    return value if isinstance(value, Mapping) else {}


def texts(value: Any, most: int) -> list[str]:
    """Return what should be a list of texts, its first ones."""
    return [text(one) for one in value[:most]] if isinstance(value, list | tuple) else []
