"""The picture that ``psctl top`` draws of a snapshot: headline, curves, members and waits, within a window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ps.launch.pace import format_left, with_speed
from ps.launch.table import format_bytes, in_unit, plain_table, seconds, short, unit_of
from ps.monitor.job_watcher import STALE, Seen
from ps.monitor.member_rows import MOST_ROWS, outstanding

Curves = Mapping[str, Mapping[str, Sequence[Any]]]

BLOCKS = "▁▂▃▄▅▆▇█"
WIDE = 120
"""Columns in which there is room for where members are, and whom they wait for."""
BAR = 30
"""Characters of the bar."""
CURVE = 40
"""Characters of a curve, at most."""
MOST_LINES = 6
"""Lines of waits and deaths, at most."""


def picture(seen: Seen, curves: Curves, silence: float, width: int, height: int | None = None) -> RenderableType:
    """Return what is drawn; ``silence``: seconds without news; ``height``: lines that there are, None for as many."""
    found = seen.snapshot
    above = [*_headline(found), *_news(seen, silence), *_curves(found, curves, width)]
    below = [Text(line, "yellow", no_wrap=True, overflow="ellipsis") for line in _notes(found)]
    below += [Text(line, "red", no_wrap=True, overflow="ellipsis") for line in found["deaths"][-MOST_LINES:]]
    room = None if height is None else max(3, height - len(above) - len(below) - 4)
    table, left_out = _members(found, width, room)
    if left_out:
        below.insert(0, Text(f"{left_out:,} more members", "dim"))
    return Group(*above, table, *below)


def spark(values: Sequence[float | None], most: int = CURVE) -> str:
    """Return the last values as a line of blocks, between the least and the greatest of them; gaps are dots."""
    shown = values[-most:]
    there = [value for value in shown if value is not None and math.isfinite(value)]
    if not there:
        return ""
    low, high = min(there), max(there)
    span = high / 2 - low / 2  # halves, so that it does not overflow
    if not span:
        return "".join("·" if value is None else BLOCKS[0] for value in shown)
    top = len(BLOCKS) - 1
    return "".join("·" if value is None else BLOCKS[round((value / 2 - low / 2) / span * top)] for value in shown)


def _headline(found: Mapping[str, Any]) -> list[Text]:
    now, job = found["now"], found["job"]
    federated = found["federated"] is not None
    where = found["where"] if federated else with_speed(found["where"], now.get("steps_per_s") or None)
    parts = [f"{job.get('mode', 'job')}: {found['phase']}", where]
    if found["left_s"] is not None:
        parts.append(format_left(found["left_s"]))
    line = Text(" · ".join(parts), "bold", no_wrap=True, overflow="ellipsis")
    if found["total"]:
        share = min(1.0, (found["done"] or 0) / found["total"])
        filled = round(share * BAR)
        line = Text.assemble(("━" * filled, "green"), ("╌" * (BAR - filled), "dim"), f" {share:.0%} ", line)
        line.no_wrap, line.overflow = True, "ellipsis"
    totals = []
    for role, counts in found["totals"].items():
        totals.append(f"{role} " + ", ".join(f"{count:,} {state}" for state, count in counts.items()))
    facts = [*totals, f"epoch {found['epoch']:.0f}", f"up {seconds(found['uptime_s'] or 0)} s"]
    if found["reason"]:
        facts.append(found["reason"])
    return [line, Text(" · ".join(facts), "dim", no_wrap=True, overflow="ellipsis")]


def _news(seen: Seen, silence: float) -> list[Text]:
    if silence < STALE:
        return []
    return [Text(f"no news for {silence:.0f} s: {seen.trouble or 'the scheduler does not answer'}", "bold red")]


def _curves(found: Mapping[str, Any], curves: Curves, width: int) -> list[Text]:
    """Return a line for the loss, the speed, what is sent, and what was measured, with how each of them went."""
    now, rows = found["now"], list[tuple[str, str, str]]()
    for name, metric in list(found["metrics"].items())[:3]:
        shown = metric["shown"]
        rows.append((name, shown if isinstance(shown, str) else _number(shown), f"metric/{name}"))
    for name, value in list(((found["measured"] or {}).get("values") or {}).items())[:2]:
        rows.append((name, value if isinstance(value, str) else _number(value), f"eval/{name}"))
    if now.get("samples_per_s"):
        rows.append(("samples/s", short(now["samples_per_s"]), "now/samples_per_s"))
    if "up_per_s" in now:
        moved = f"{format_bytes(now['up_per_s'])}/s up, {format_bytes(now['down_per_s'])}/s down"
        rows.append(("traffic", moved, "now/up_per_s"))
        rows.append(("waiting", f"{now['waiting']:.0%} of workers' time", "now/waiting"))
    lines = []
    for name, value, curve in rows:
        drawn = spark(curves[curve]["last"], max(8, min(CURVE, width - 60))) if curve in curves else ""
        line = Text.assemble((f"{name:<16.16} ", "dim"), f"{value:<32.32} ", (drawn, "cyan"))
        line.no_wrap, line.overflow = True, "ellipsis"
        lines.append(line)
    return lines


def _members(found: Mapping[str, Any], width: int, room: int | None) -> tuple[Table, int]:
    """Return the table of members, and how many are not in it."""
    federated, wide = found["federated"] is not None, width >= WIDE
    rows = outstanding(found["members"], MOST_ROWS if room is None else room)
    unit, size = unit_of(row[key] for row in rows for key in ("up", "down"))
    table = plain_table()
    table.add_column("member", no_wrap=True)
    table.add_column("state", no_wrap=True)
    columns = ["seen s", "round" if federated else "clock", "steps" if federated else "lag"]
    for column in (*columns, "samples/s", "loss", f"up {unit}", f"down {unit}", "wait s", "stale"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("where", "waits for") if wide else ():
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*_cells(row, size, federated=federated, wide=wide))
    return table, found["others"] + len(found["members"]) - len(rows)


def _cells(row: Mapping[str, Any], size: float, *, federated: bool, wide: bool) -> list[Text]:
    is_worker = "lag" in row
    state = {"live": "green", "dead": "red"}.get(row["state"], "dim")
    loss = row.get("loss")
    own = ["" if row.get("steps") is None else short(row["steps"])] if federated else [f"{row.get('lag', 0):.0f}"]
    speed, seen = row.get("samples_per_s"), row["seen_s"]
    numbers = [
        *own,
        "" if speed is None else short(speed),
        loss if isinstance(loss, str) else "" if loss is None else f"{loss:.4g}",
        in_unit(row["up"], size),
        in_unit(row["down"], size),
        seconds(row["wait_s"] or 0),
        f"{row.get('staleness', 0):.0f}",
    ]
    cells = [
        Text(f"{row['role']} {row['rank']}", "bold yellow" if row.get("waited_for") else ""),
        Text(row["state"], state),
        Text("" if seen is None else seconds(seen)),
        Text(f"{row['clock']:.0f}"),
        *(Text(cell if is_worker else "") for cell in numbers),
    ]
    if wide:
        cells += [Text(row["where"]), Text("; ".join([*row["waits"], *([row["note"]] if row.get("note") else [])]))]
    return cells


def _notes(found: Mapping[str, Any]) -> list[str]:
    """Return lines about rounds, checkpoints, moves and waits."""
    lines = [found["stop"]] if found["stop"] else []
    if rounds := found["federated"]:
        refused = ", ".join(f"{count:.0f} × {why}" for why, count in rounds["refused"].items()) or "none"
        lines.append(f"{rounds['algorithm']}: {rounds['phase']} · {rounds['active']:.0f} training · refused: {refused}")
    if kept := found["checkpoint"]:
        made = f"{kept['folder']}, of step {kept['step']:.0f}" if kept["folder"] else "none is whole yet"
        lines.append(f"checkpoint: {made}{'; the last one failed: ' + kept['trouble'] if kept['trouble'] else ''}")
    if moves := found["moves"]:
        lines.append(f"chunks: {moves['moved']:.0f} moved, {moves['left']:.0f} left to move")
    return [*lines, *found["waits"][:MOST_LINES]]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"
