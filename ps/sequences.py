"""Sequences of kinds that others have made: lists, tuples and named tuples, with other parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def rebuilt(like: Any, parts: Iterable[Any]) -> Any:
    """Return a list, a tuple or a named tuple with other parts."""
    kind: Any = type(like)
    return kind(*parts) if getattr(like, "_fields", ()) else kind(parts)
