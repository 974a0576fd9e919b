"""Numbers as scripts give them: whatever they are, looking at them raises nothing."""

from __future__ import annotations

import math
from typing import Any

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
    try:
        text = repr(value)
    except Exception:  # a whole number of thousands of digits, or whatever a foreign class does
        return f"something of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
