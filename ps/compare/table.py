"""The report in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ps.compare.show import NOTHING, show
from ps.launch.table import plain_table

COLUMNS = (
    ("participants", "workers"),
    ("final", ""),
    ("wall_s", "time"),
    ("examples", "examples"),
    ("bytes_up", "up"),
    ("bytes_down", "down"),
)


def tables(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield what a terminal shows: a row for each run, then the drop-outs, the failures and what differs."""
    yield _runs(report)
    if report["dropouts"]:
        yield _dropouts(report)
    for run in [*report["runs"], *report["dropouts"]]:
        if run["tail"] and not run.get("finished"):
            yield Text(f"last lines of {run['name']}:", style="bold")
            yield Padding(Text("\n".join(run["tail"])), (0, 0, 1, 4))
    yield Text("What differs besides the paradigm", style="bold")
    for note in report["notes"]:
        yield Padding(Text(f"· {note}"), (0, 0, 0, 2))


def ending(run: Mapping[str, Any]) -> str:
    """Return how a run ended, in a few words."""
    if run["ended"] == "finished":
        return "finished"
    status = f" ({run['status']})" if run["status"] is not None else ""
    return f"{run['ended']}{status}"


def verdict(run: Mapping[str, Any]) -> str:
    """Return what became of a training whose participants dropped out, in a few words."""
    if run["ended"] == "not run":
        return "not run"
    if not run["killed"]:
        return "nobody was killed" if run["finished"] else f"{run['ended']} before the kill"
    return "went on" if run["finished"] else "training lost"


def _runs(report: Mapping[str, Any]) -> Table:
    metric = report["metric"]
    table = plain_table(f"{report['script']} compared")
    table.add_column("run", overflow="fold")
    for _, title in COLUMNS:
        table.add_column(title or metric, justify="right", no_wrap=True)
    table.add_column("ended", overflow="fold")
    for run in report["runs"]:
        cells = (show(key, run[key], metric) for key, _ in COLUMNS)
        style = "" if run["ended"] == "finished" else "red"
        table.add_row(run["title"], *cells, Text(ending(run), style=style))
    return table


def _dropouts(report: Mapping[str, Any]) -> Table:
    metric = report["metric"]
    title = "With participants killed half-way"
    table = plain_table(title)
    table.add_column("run", overflow="fold")
    for column in ("killed", metric, f"{metric}\nwithout", "time", "time\nwithout", "stood\nstill"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("training", overflow="fold")
    for run in report["dropouts"]:
        keys = ("final", "without", "wall_s", "wall_without_s", "pause_s")
        killed = f"{len(run['killed'])} of {run['participants']}" if run["killed"] else NOTHING
        style = "" if run["finished"] else "red"
        cells = (show(key, run[key], metric) for key in keys)
        table.add_row(run["title"], killed, *cells, Text(verdict(run), style=style))
    return table
