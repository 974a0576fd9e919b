"""The table at the end of a run: at most 80 columns wide, with its units in the head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ps.config.mode import BOUNDED
from ps.text import stopping

UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))

Row = Mapping[str, Any]


def summary_table(summary: Row) -> RenderableType:
    """Return the summary as a title, a table with a row for each worker and their totals, and what was measured."""
    status = summary["exit_status"]
    ending = "finished" if status == 0 else f"ended with exit status {status}"
    title = f"{summary['mode'] or 'the run'} {ending} after {summary['wall_s']:.1f} s"
    rows = {row["rank"]: row for row in summary["per_worker"]}
    ranks = summary["members"]["workers"]
    totals = {**summary, "steps": summary["total_steps"], "rank": "all"}
    federated = "federated" in summary
    columns = _columns([*rows.values(), totals], federated=federated, stale=summary["mode"] in ("async", *BOUNDED))
    table = plain_table()
    table.add_column("client" if federated else "worker", no_wrap=True)
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    outcomes = {p["rank"]: p["outcome"] for p in summary["processes"] if p["role"] == "worker"}
    for rank in ranks:
        row = rows.get(rank, {"steps": 0})
        outcome = outcomes.get(rank, "from elsewhere").split(":")[0]
        table.add_row(str(rank), *(cell(row) for _, cell in columns), outcome)
    table.add_section()
    table.add_row("all", *(cell(totals) for _, cell in columns), "")
    return Group(Text(title, style="italic"), table, *(Text(line) for line in _notes(summary)))


def plain_table(title: str | None = None) -> Table:
    """Return an empty table that leaves the width of a window to what is in it."""
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=0, show_edge=False)


def unit_of(counts: Iterable[float]) -> tuple[str, float]:
    """Return the unit of bytes in which the largest of some counts is at least 1, and its size."""
    largest = max(counts, default=0)
    return next(((unit, size) for unit, size in UNITS if largest >= size), UNITS[-1])


def in_unit(count: float, size: float) -> str:
    """Return a number of bytes in a unit of that size."""
    return f"{count / size:,.1f}" if size > 1 else f"{count:.0f}"


def seconds(number: float) -> str:
    """Return seconds in at most six characters, up to some days."""
    return f"{number:.1f}" if number < 1000 else f"{number:,.0f}"


def short(number: float) -> str:
    """Return a count in at most seven characters: 999,999, then 12.3M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if abs(number) >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:,.0f}"


def format_bytes(count: float) -> str:
    """Return a number of bytes for people: 3.4 MB."""
    unit, size = unit_of([count])
    return f"{in_unit(count, size)} {unit}"


def _columns(rows: Sequence[Row], *, federated: bool, stale: bool) -> list[tuple[str, Any]]:
    """Return the columns' names, and how each cell is made of a row."""
    unit, size = unit_of(count for row in rows for count in (row.get("bytes_up", 0), row.get("bytes_down", 0)))

    def samples(row: Row) -> str:
        return "–" if row.get("steps") and not row.get("samples") else short(row.get("samples", 0))

    def speed(row: Row) -> str:
        return "–" if row.get("steps") and not row.get("samples") else short(row.get("samples_per_s", 0))

    columns: list[tuple[str, Any]] = [("rounds", lambda row: short(row.get("rounds", 0)))] if federated else []
    columns += [("steps", lambda row: short(row.get("steps", 0))), ("samples", samples)]
    columns += [] if federated else [("samples/s", speed)]
    columns += [
        (f"up {unit}", lambda row: in_unit(row.get("bytes_up", 0), size)),
        (f"down {unit}", lambda row: in_unit(row.get("bytes_down", 0), size)),
    ]
    columns += [] if federated else [("wait s", lambda row: seconds(row.get("wait_s", 0)))]
    columns += [("stale", lambda row: str(row.get("max_staleness", 0)))] if stale else []
    return [*columns, ("loss", lambda row: "" if row.get("loss") is None else f"{row['loss']:.3g}")]


def _notes(summary: Row) -> list[str]:
    """Return the lines below the table: why it ended early, what was measured last, why there are no samples."""
    notes = []
    if summary.get("stop"):
        notes.append(stopping(summary["stop"], federated="federated" in summary, past=True))
    if (last := summary.get("measured")) and last["metrics"]:
        what = ", ".join(f"{name} {value:.4g}" for name, value in last["metrics"].items())
        when = f"after round {last['clock']}" if "federated" in summary else f"at step {last['clock']}"
        notes.append(f"measured {when}: {what}")
    if bubble := summary.get("bubble"):
        notes.append(f"idle in the passes {bubble['measured']:.0%}, by the schedule alone {bubble['schedule']:.0%}")
    if summary["total_steps"] and not summary["samples"]:
        notes.append("samples are not counted: say kv.step(…, examples=N), or use kv.batches")
    return notes
