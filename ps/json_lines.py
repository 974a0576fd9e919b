"""JSON lines: records with an object in each line, as they are written or as something has damaged them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MOST = 1e18
"""The largest number that is added to others: sums of a great many still are numbers."""


def objects(lines: Iterable[str | bytes]) -> Iterator[dict[str, Any]]:
    """Yield the objects that lines hold; what is torn or holds something else is passed over."""
    for line in lines:
        if (found := parse_object(line)) is not None:
            yield found


def parse_object(text: str | bytes) -> dict[str, Any] | None:
    """Return the object that a text holds, or None where it holds none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def amount(line: Mapping[str, Any], key: str) -> float:
    """Return a line's number of this name, to be added up; 0 where there is none, or one that nothing comes to."""
    value = finite(line.get(key)) or 0.0
    return value if abs(value) < MOST else 0.0


def finite(value: Any) -> float | None:
    """Return a value that is a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None
