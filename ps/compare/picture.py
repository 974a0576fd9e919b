"""Picture: where the data is: a sketch of each paradigm, and how many examples of each label every client holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from ps.compare.case import CENTRALIZED, DISTRIBUTED
from ps.compare.markup import Markup, tag

T = TypeVar("T")

MOST_CLIENTS, MOST_LABELS = 24, 24
CELL = 26

_SHAPES = ("circle", "square", "up", "diamond")


def sketch(paradigm: str, name: str, partition: str | None) -> Markup:
    """Return a sketch: examples are small shapes, a shape for each label, and boxes are processes."""
    if paradigm == CENTRALIZED:
        parts = [_box(70, 28, 80, 64), *_examples(78, 36, 5, 4, tuple(range(4)), 13)]
        words = "all examples in one process"
    elif paradigm == DISTRIBUTED:
        parts = [_box(60, 6, 100, 34, dashed=True), *_examples(66, 11, 7, 2, tuple(range(4)), 13)]
        for i in range(3):
            x = 14 + i * 72
            parts += [_arrow(110, 42, x + 24, 70), _box(x, 72, 48, 34)]
            parts += _examples(x + 6, 77, 3, 2, tuple((j + i) % 4 for j in range(4)), 13)
        words = "examples read by three workers from one set, anew in each epoch"
    else:
        mixed = partition in (None, "iid")
        parts = [
            _box(86, 6, 48, 22, dashed=True),
            tag("text", "model", x=110, y=21, text_anchor="middle", class_="tick"),
        ]
        for i in range(3):
            x = 14 + i * 72
            labels = tuple(range(4)) if mixed else (i, i + 1)
            parts += [_arrow(x + 24, 58, 110 + (i - 1) * 16, 31), _box(x, 60, 48, 46)]
            parts += _examples(x + 6, 66, 3, 3, labels, 13)
        kinds = "of every label" if mixed else "of a few labels each"
        words = f"examples {kinds} that stay at three clients, of which only deltas go to the model"
    return tag(
        "svg",
        tag("title", words[0].upper() + words[1:], id=f"sketch-{name}"),
        *parts,
        viewBox="0 0 220 112",
        role="img",
        aria_labelledby=f"sketch-{name}",
        class_="sketch",
        style=f"--run:var(--{name})",
    )


def holdings(name: str, title: str, shares: Sequence[Mapping[str, int]], ranks: Sequence[int]) -> Markup:
    """Return a grid: a row for each client, a column for each label, the darker the more examples.

    Of many clients or labels only some are drawn, evenly chosen; the table below has all.
    """
    labels = _some(labels_of(shares), MOST_LABELS)
    rows = _some(list(zip(ranks, shares, strict=True)), MOST_CLIENTS)
    most = max((count for _, share in rows for count in share.values()), default=1) or 1
    parts: list[Markup] = []
    for j, label in enumerate(labels):
        parts.append(tag("text", str(label), x=_x(j) + CELL / 2, y=12, text_anchor="middle", class_="tick"))
    for i, (rank, share) in enumerate(rows):
        y = 18 + i * (CELL * 0.62)
        parts.append(tag("text", str(rank), x=58, y=y + 12, text_anchor="end", class_="tick"))
        for j, label in enumerate(labels):
            count = share.get(label, 0)
            opacity = 0.0 if not count else 0.12 + 0.88 * count / most
            cell = tag("title", f"client {rank}, label {label}: {count}")
            shape = {"x": _x(j), "y": y, "width": CELL - 2, "height": CELL * 0.62 - 2, "rx": 2}
            parts.append(tag("rect", **shape, class_="cell"))
            if count:
                parts.append(tag("rect", cell, **shape, fill=f"var(--{name})", fill_opacity=opacity))
    height = 18 + len(rows) * CELL * 0.62 + 6
    words = f"{len(shares)} clients, {len(labels_of(shares))} labels. " + spread_words(shares)
    key = f"holdings-{name}"
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", words, id=f"{key}-desc"),
        tag("text", "client", x=58, y=12, text_anchor="end", class_="tick"),
        *parts,
        viewBox=f"0 0 {_x(len(labels)) + 4:.0f} {height:.0f}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        style=f"max-width:{(_x(len(labels)) + 4) * 1.3:.0f}px",
    )


def spread_words(shares: Sequence[Mapping[str, int]]) -> str:
    """Return in words how many examples and labels clients hold."""
    sizes = [sum(share.values()) for share in shares]
    kinds = [sum(1 for count in share.values() if count) for share in shares]
    return (
        f"A client holds {_range(sizes)} examples of {_range(kinds)} of the {len(labels_of(shares))} labels."
        if sizes
        else ""
    )


def labels_of(shares: Sequence[Mapping[str, int]]) -> list[str]:
    """Return all labels, numbers in their order."""
    found = {label for share in shares for label in share}
    return sorted(found, key=lambda label: (0, float(label), label) if _is_number(label) else (1, 0.0, label))


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _some(items: list[T], most: int) -> list[T]:
    if len(items) <= most:
        return items
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, most)]


def _x(column: int) -> float:
    return 66 + column * CELL


def _box(x: float, y: float, width: float, height: float, dashed: bool = False) -> Markup:
    dash = "4 3" if dashed else None
    return tag("rect", x=x, y=y, width=width, height=height, rx=5, class_="box", stroke_dasharray=dash)


def _arrow(x1: float, y1: float, x2: float, y2: float) -> Markup:
    dx, dy = x2 - x1, y2 - y1
    length = (dx * dx + dy * dy) ** 0.5
    ux, uy = dx / length, dy / length
    heads = [(x2 - 5 * ux - 3 * side * uy, y2 - 5 * uy + 3 * side * ux) for side in (1, -1)]
    head = "".join(f"M{x2:.1f} {y2:.1f}L{hx:.1f} {hy:.1f}" for hx, hy in heads)
    return tag("path", d=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}{head}", class_="arrow")


def _examples(x: float, y: float, columns: int, rows: int, labels: Sequence[int], step: float) -> list[Markup]:
    shapes = []
    turn = int(columns % len(labels) == 0)  # so that no column is of one kind
    for row in range(rows):
        for column in range(columns):
            label = labels[(row * (columns + turn) + column) % len(labels)] % len(_SHAPES)
            shapes.append(_shape(_SHAPES[label], x + step / 2 + column * step, y + step / 2 + row * step))
    return shapes


def _shape(kind: str, x: float, y: float) -> Markup:
    if kind == "circle":
        return tag("circle", cx=x, cy=y, r=3.6, class_="example")
    a = {"square": 3.3, "up": 4.2, "diamond": 4.3}[kind]
    corners = {
        "square": [(-a, -a), (a, -a), (a, a), (-a, a)],
        "up": [(0, -a), (a, a * 0.8), (-a, a * 0.8)],
        "diamond": [(0, -a), (a, 0), (0, a), (-a, 0)],
    }[kind]
    return tag("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners), class_=f"example {kind}")
