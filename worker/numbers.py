"""Numbers as scripts give them: whatever they are, looking at them raises nothing."""

from __future__ import annotations

import math
from typing import Any

from ps.config.setting import shorten

LONGEST = 40
"""Characters of a value in a message."""


def as_float(value: Any) -> float:
    """Return what a script gave as a float; NaN for what is no number, or is none that a float can hold."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def shown(value: Any) -> str:
    """Return a value for a message, shortened; its type where it cannot be written."""
    return shorten(value, LONGEST)
