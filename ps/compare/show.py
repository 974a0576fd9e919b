"""How the report's numbers are shown: the same in the terminal, on the page and under the plots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ps.launch.table import format_bytes

NOTHING = "–"


def show(key: str, value: Any, metric: str = "accuracy") -> str:
    """Return a value of the report as people read it; ``key`` is its name there and says what it counts."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if key in _METRIC:
        return show_metric(value, metric)
    if key.startswith("bytes"):
        return format_bytes(value)
    if key.endswith("_s") or key == "seconds":
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def show_metric(value: float, metric: str) -> str:
    """Return a metric's value: an accuracy in per cent, anything else as a number."""
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4g}"


def mark(metric: str) -> Callable[[float], str]:
    """Return how an axis writes a metric: without decimals that are always zero."""
    return lambda value: f"{100 * value:.6g} %" if metric == "accuracy" else f"{value:.4g}"


_METRIC = frozenset(("value", "final", "without", "mean", "min", "p10", "p50", "p90", "max"))
