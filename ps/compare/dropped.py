"""The section of the page on drop-outs: what became of each run whose participants were killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ps.compare.bars import Shift, shifts
from ps.compare.markup import Markup, table, tag
from ps.compare.scale import around
from ps.compare.show import NOTHING, mark, show
from ps.compare.table import verdict

LEAST = 0.1
"""What the axis of drop-outs spans of an accuracy, at least: smaller changes are mostly chance, and look small."""


def dropouts(report: Mapping[str, Any]) -> Markup | None:
    """Return what became of each run whose participants were killed half-way."""
    runs, metric = report["dropouts"], report["metric"]
    if not runs:
        return None
    values = [Shift(run["of"], run["title"], run["without"], run["final"], _fate(run, metric)) for run in runs]
    times = [
        Shift(run["of"], run["title"], run["wall_without_s"], run["wall_s"] if run["finished"] else None, _time(run))
        for run in runs
    ]
    is_accuracy = metric == "accuracy"
    scale = around(_ends(values), 1.0 if is_accuracy else None, LEAST if is_accuracy else 0.0)
    figures = (
        (metric, shifts("dropouts", f"{metric} without and with drop-outs", values, mark(metric), scale)),
        (
            "wall time",
            shifts("times", "Wall time without and with drop-outs", times, _seconds, around([0.0, *_ends(times)])),
        ),
    )
    keys = ("final", "without", "wall_s", "wall_without_s", "pause_s")
    head = ("run", "killed", "ranks", "clock", metric, "without", "wall time", "without", "stood still", "training")
    cells = [
        [
            run["title"],
            f"{len(run['killed'])} of {run['participants']}" if run["killed"] else NOTHING,
            ", ".join(map(str, run["killed"])) or NOTHING,
            f"{show('clock', run['killed_clock'])} of {show('clock', run['of_clock'])}" if run["killed"] else NOTHING,
            *(show(key, run[key], metric) for key in keys),
            tag("span", verdict(run), class_="good" if run["finished"] else "bad"),
        ]
        for run in runs
    ]
    return tag(
        "section",
        tag("h2", "When participants drop out"),
        tag("p", "Each run again, with participants killed half-way (SIGKILL): nobody says goodbye."),
        tag(
            "div",
            *(tag("figure", tag("h3", what[0].upper() + what[1:]), drawn, class_="bars") for what, drawn in figures),
            class_="plots",
        ),
        tag("p", "Hollow: without drop-outs. Filled: with them.", class_="soft"),
        table(head, cells, "“Stood still” is the longest time in which nobody did a step after the kill", stacked=True),
    )


def _fate(run: Mapping[str, Any], metric: str) -> str:
    if not run["killed"] and run["finished"]:
        return "nobody killed"
    return show("final", run["final"], metric) if run["finished"] and run["final"] is not None else verdict(run)


def _time(run: Mapping[str, Any]) -> str:
    return show("wall_s", run["wall_s"]) if run["finished"] else verdict(run)


def _ends(rows: Sequence[Shift]) -> list[float]:
    return [value for row in rows for value in (row.without, row.final) if value is not None]


def _seconds(value: float) -> str:
    return f"{value:g} s"
