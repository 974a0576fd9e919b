"""The picture of a partition: a shaded cell for each client and label, a bar for each client's size."""

from __future__ import annotations

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ps.cli.holdings import Holdings
from ps.xp import HostArray

SHADES = (
    (0.0, " ", ""),
    (0.05, "·", "bright_blue"),
    (0.15, "░", "bright_blue"),
    (0.40, "▒", "cyan"),
    (0.75, "▓", "green"),
    (1.01, "█", "yellow"),
)
"""Up to which share of a client's examples a cell has which character and, in a terminal with colours, which colour."""

WIDEST_CELL, WIDEST_BAR = 4, 30
SIZE_CLASSES = 30
"""Bins, at most, that the clients' sizes are counted in."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = " ▁▂▃▄▅▆▇█"
_NUMBER, _SIZE, _GAP = 7, 9, 2  # columns of a client's number, its size, and between the parts


def picture(holdings: Holdings, width: int, most: int) -> RenderableType:
    """Return the picture in ``width`` columns, of ``most`` clients at most, and the measures of all below it."""
    division = holdings.partition
    shown = np.unique(np.linspace(0, division.clients - 1, min(most, division.clients)).round().astype(int))
    title = f"{holdings.dataset}: {division.examples:,} examples over {division.clients:,} clients, {division.spec}"
    parts: list[RenderableType] = [Text(f"{title}, seed {division.seed}", style="bold"), Text()]
    parts.append(_matrix(holdings, shown, width))
    if len(shown) < division.clients:
        parts.append(Text(f"{len(shown)} of {division.clients:,} clients, at equal distances", style="dim"))
    parts += [Text(), _legend(), _measures(holdings)]
    if len(shown) < division.clients and np.ptp(division.sizes):
        parts.append(_sizes(division.sizes))
    if holdings.noise:
        parts.append(Text(f"noise of deviation 0 for client 0 up to {holdings.noise:.3g} for the last"))
    return Group(*parts)


def _matrix(holdings: Holdings, shown: HostArray, width: int) -> Text:
    room = max(width - _NUMBER - _SIZE - 2 * _GAP - WIDEST_CELL * 2, 10)
    counts, labels = _grouped(holdings.counts, holdings.labels, room)
    cell = max(1, min(WIDEST_CELL, room // len(labels)))
    longest = max(1, min(WIDEST_BAR, width - _NUMBER - _SIZE - 2 * _GAP - cell * len(labels) - 1))
    sizes = counts.sum(axis=1)
    lines = [Text(f"{'client':>{_NUMBER}}{' ' * _GAP}{_heads(labels, cell)}{' ' * _GAP}{'examples':>{_SIZE}}", "dim")]
    for client in shown:
        line = Text(f"{client:>{_NUMBER},}{' ' * _GAP}")
        line.append_text(_cells(counts[client], cell)).append(f"{' ' * _GAP}{sizes[client]:>{_SIZE},} ")
        lines.append(line.append(_bar(sizes[client] / sizes.max(), longest), "magenta"))
    everybody = Text(f"{'all':>{_NUMBER}}{' ' * _GAP}").append_text(_cells(counts.sum(axis=0), cell))
    lines += [Text(), everybody.append(f"{' ' * _GAP}{sizes.sum():>{_SIZE},}")]
    return Text("\n").join(lines)


def _grouped(counts: HostArray, labels: HostArray, room: int) -> tuple[HostArray, HostArray]:
    """Return counts and labels with as many neighbouring labels put together as make them fit."""
    starts = np.arange(0, len(labels), -(-len(labels) // room))
    return np.add.reduceat(counts, starts, axis=1), labels[starts]


def _heads(labels: HostArray, cell: int) -> str:
    """Return the labels above their cells, as many as there is space for."""
    line = ""
    for place, label in enumerate(map(str, labels)):
        start = place * cell + max(0, (cell - 1 - len(label)) // 2)
        if len(line) < start or not line:
            line = f"{line:<{start}}{label}"
    return f"{line:<{cell * len(labels)}}"[: cell * len(labels)]


def _cells(counts: HostArray, cell: int) -> Text:
    text = Text()
    for share in counts / counts.sum():
        _, character, colour = next(shade for shade in SHADES if share <= shade[0])
        filled = max(1, cell - 1)
        text.append(f"{character if character == '·' else character * filled:^{filled}}{' ' * (cell - filled)}", colour)
    return text


def _bar(share: float, longest: int) -> str:
    """Return a bar of eighths of a character; the smallest share still shows."""
    eighths = max(1, round(share * longest * 8))
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _legend() -> Text:
    text = Text("of a client's examples:", "dim")
    for high, character, colour in SHADES[1:]:
        text.append(f"  {character} ", colour).append("more" if high > 1 else f"to {high:.0%}", "dim")
    return text


def _measures(holdings: Holdings) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("per client")
    for column in ("smallest", "median", "largest", "mean", "if iid"):
        table.add_column(column, justify="right")
    for name, values in holdings.measures().items():
        table.add_row(name, *(f"{value:.3f}" if name == "skew" else f"{value:,.4g}" for value in values.values()))
    return table


def _sizes(sizes: HostArray) -> Text:
    """Return how many clients there are of each size, from the smallest to the largest."""
    low, high = int(sizes.min()), int(sizes.max())
    heights, _ = np.histogram(sizes, min(SIZE_CLASSES, high - low + 1))
    levels = np.ceil(heights / heights.max() * (len(_LEVELS) - 1)).astype(int)
    text = Text(f"clients by size: {low:,} ")
    return text.append("".join(_LEVELS[level] for level in levels), "magenta").append(f" {high:,}")
