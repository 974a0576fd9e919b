"""The readable form of a simulation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ps.launch.table import format_bytes, plain_table

MOST_EVALUATIONS = 12
"""Evaluations that are shown, at most: evenly spaced ones, and the last."""


def evaluation_table(report: Mapping[str, Any]) -> Table:
    """Return a row for each evaluation: rounds, virtual time, accuracy."""
    table = plain_table()
    for column in ("round", "virtual time", "test accuracy"):
        table.add_column(column, justify="right")
    for row in _evenly(report["evaluations"]):
        table.add_row(str(row["round"]), format_time(row["virtual_s"]), f"{row['accuracy']:.4f}")
    return table


def outcome_table(report: Mapping[str, Any]) -> Table:
    """Return what the rounds took, what became of tasks, and what clients moved and have of the model."""
    tasks, real, target = report["tasks"], report["real"], report["target"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("rounds", f"{report['rounds']:,} in {format_time(report['virtual_s'])} of virtual time")
    if target is not None:
        words = "not reached"
        if target["reached"]:
            words = f"reached after round {target['round']}, {format_time(target['virtual_s'])}"
        table.add_row("target", f"{target['accuracy']:g} {words}")
    rate, processes = real["updates_per_s"], real["processes"]
    digits = 0 if rate >= 10 else 1
    speed = f"{rate:,.{digits}f} updates/s on {processes} process{'es' if processes > 1 else ''}"
    table.add_row("computed", f"{tasks['trained']:,} updates in {real['wall_s']:.1f} s, {speed}")
    refused = ", ".join(f"{reason} {count:,}" for reason, count in tasks["refused"].items()) or "none"
    capped = f", {tasks['capped']:,} of them capped (--max-client-weight, --max-influence)" if tasks["capped"] else ""
    table.add_row("accepted", f"{tasks['accepted']:,}{capped}; refused: {refused}; dropped out: {tasks['dropped']:,}")
    table.add_row(
        "participants", f"{report['participants']:,} of {report['clients']:,} clients, {report['polls']:,} polls"
    )
    for way in ("up", "down"):
        table.add_row(f"bytes {way}", _spread(report[f"{way}_per_participant"], format_bytes))
    table.add_row("client accuracy", _spread(report["client_accuracy"], lambda value: f"{value:.3f}"))
    return table


def format_time(seconds: float) -> str:
    """Return a duration for people: 12.3 s, 4 min 05 s, 3 h 20 min, 2 d 4 h."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _spread(values: Mapping[str, float], show: Any) -> str:
    if not values:
        return "none took part"
    parts = (f"{name} {show(values[name])}" for name in ("mean", "min", "p10", "p50", "p90", "max"))
    return " · ".join(parts)


def _evenly(rows: Sequence[Any]) -> list[Any]:
    step = max(1, -(-len(rows) // MOST_EVALUATIONS))
    shown = list(rows[::step])
    return shown if not rows or shown[-1] is rows[-1] else [*shown, rows[-1]]
