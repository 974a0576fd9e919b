"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return the summary as a table: a row per worker, and their totals."""
    status = summary["exit_status"]
    ending = "finished" if status == 0 else f"ended with exit status {status}"
    title = f"{summary['mode'] or 'run'} {ending} after {summary['wall_s']:.1f} s"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("worker")
    for column in ("steps", "samples", "samples/s", "up", "down", "wait s", "max staleness", "last loss"):
        table.add_column(column, justify="right")
    table.add_column("outcome")
    outcomes = {p["rank"]: p["outcome"] for p in summary["processes"] if p["role"] == "worker"}
    rows = {row["rank"]: row for row in summary["per_worker"]}
    for rank in summary["members"]["workers"]:
        row = rows.get(rank, {"steps": 0})
        table.add_row(str(rank), *_cells(row), outcomes.get(rank, "joined from elsewhere").split(":")[0])
    table.add_section()
    totals = {**summary, "steps": summary["total_steps"]}
    table.add_row("all", *_cells(totals), "")
    return table


def format_bytes(count: float) -> str:
    """Return a number of bytes for people: 3.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _cells(row: Mapping[str, Any]) -> list[str]:
    loss = row.get("loss")
    return [
        f"{row.get('steps', 0):,}",
        f"{row.get('samples', 0):,}",
        f"{row.get('samples_per_s', 0):,.0f}",
        format_bytes(row.get("bytes_up", 0)),
        format_bytes(row.get("bytes_down", 0)),
        f"{row.get('wait_s', 0):.2f}",
        str(row.get("max_staleness", 0)),
        "" if loss is None else f"{loss:.4g}",
    ]
