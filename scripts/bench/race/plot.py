"""A plot of a comparison: bars for the main tables, lines for the sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from race.parts import PARTS, show_bytes
from race.report import best_peer
from race.turns import Table

COLOURS = {  # Okabe and Ito's, which everybody can tell apart; markers tell the same
    "ps shm": ("#0072B2", "o"),
    "ps ipc": ("#56B4E9", "s"),
    "ps tcp": ("#009E73", "^"),
    "gloo": ("#D55E00", "D"),
    "DDP": ("#CC79A7", "v"),
    "ray": ("#E69F00", "P"),
    "pyzmq": ("#8C8C8C", "X"),
    "in place": ("#000000", ""),
}
OTHER = ("#BFBFBF", "")
LABELS = {
    "workers": "workers",
    "servers": "servers",
    "nbytes": "size of the model",
    "chunk": "size of a chunk, at most",
}


def plot(tables: Sequence[Table], words: str, file: Path) -> str:
    """Draw what was measured into a PNG; return why not, or nothing."""
    try:
        import matplotlib
    except ImportError:
        return 'no plot: matplotlib is not installed; pip install "paramserver[bench]"'
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: list[Callable[[Any], None]] = []
    for part in dict.fromkeys(table.part for table in tables):
        own = [table for table in tables if table.part == part]
        panels.append(partial(_lines, tables=own) if own[0].x else partial(_bars, table=own[0]))
    if not panels:
        return "no plot: nothing was measured"
    style = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titleweight": "bold",
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
    }
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(
            rows, columns, figsize=(6.8 * columns, 4.0 * rows), squeeze=False, layout="constrained", facecolor="white"
        )
        for axis, panel in zip(axes.flat, panels, strict=False):
            panel(axis)
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        figure.supxlabel(words, fontsize=8, color="#555555")
        figure.savefig(file, dpi=140)
        pyplot.close(figure)
    return ""


def _look(name: str) -> tuple[str, str]:
    return next((look for start, look in COLOURS.items() if name.startswith(start)), OTHER)


def _bars(axis: Any, table: Table) -> None:
    """Draw ms a step, the fastest on top, and how many times as fast as the best peer each of ours is."""
    results = sorted((r for r in table.results if not math.isnan(r.median)), key=lambda result: result.median)
    times = [result.median * 1e3 for result in results]
    bars = axis.barh(
        [result.case.name for result in results],
        times,
        color=[_look(result.case.name)[0] for result in results],
        hatch=["///" if result.case.kind == "limit" else "" for result in results],
        edgecolor="white",
        linewidth=0,
    )
    peer = best_peer(table)
    labels = []
    for result, ms in zip(results, times, strict=True):
        ratio = peer / result.median
        times_as_fast = f"   {ratio:.1f} × best peer" if result.case.kind == "ps" and not math.isnan(ratio) else ""
        labels.append(f"{ms:.3g} ms{times_as_fast}")
    axis.bar_label(bars, labels, padding=4, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, max(times, default=1) * 1.45)
    axis.set_xlabel("ms a step (hatched: a limit, not the same work)")
    axis.set_title(table.title)


def _lines(axis: Any, tables: Sequence[Table]) -> None:
    """Draw a sweep: GB/s over the size of the model, else ms a step; ps shm tells how it compares at each point."""
    from matplotlib.ticker import LogLocator

    x = tables[0].x
    rate = x == "nbytes"
    values = [getattr(table.setup, x) for table in tables]
    for name in dict.fromkeys(result.case.name for table in tables for result in table.results):
        seconds = [table.median(name) for table in tables]
        heights = [
            table.setup.nbytes / 1e9 / value if rate else value * 1e3
            for table, value in zip(tables, seconds, strict=True)
        ]
        colour, marker = _look(name)
        line = "--" if name == "in place" else "-"
        axis.plot(values, heights, line, color=colour, marker=marker, markersize=5, linewidth=1.6, label=name)
        if name == "ps shm":
            for table, value, height in zip(tables, values, heights, strict=True):
                ratio = best_peer(table) / table.median(name)
                if not math.isnan(ratio):
                    axis.annotate(
                        f"{ratio:.1f} ×",
                        (value, height),
                        (0, 7 if rate else -13),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8,
                        color=colour,
                    )
    axis.set_yscale("log")
    if x in ("nbytes", "chunk"):
        axis.set_xscale("log")
    shown = {"nbytes": show_bytes, "chunk": lambda value: f"{value >> 10} KiB"}.get(x, str)
    axis.set_xticks(values, [shown(value) for value in values])
    axis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.margins(y=0.12)
    axis.set_xlabel(LABELS[x])
    axis.set_ylabel("GB/s of model" if rate else "ms a step")
    axis.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axis.set_axisbelow(True)
    size = "" if rate else f", {show_bytes(tables[0].setup.nbytes)}"
    words = PARTS[tables[0].part].title
    axis.set_title(f"{words[0].upper()}{words[1:]}{size}")
    axis.legend(
        fontsize=8,
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        title="× : over best peer",
        title_fontsize=8,
    )
