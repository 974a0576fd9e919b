"""Bars: two values for each run, and what became of each run when participants dropped out, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ps.compare.look import marker
from ps.compare.markup import Markup, tag
from ps.compare.scale import Scale

WIDTH = 440
LEFT = 128
RIGHT = 4
WORDS = 96
"""Room for what stands at the end of a row."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A run's two bars: a mean each, with the least and the most it is the mean of."""

    name: str
    title: str
    up: tuple[float, float, float]
    down: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Shift:
    """A run's value without and with drop-outs; None where there is none."""

    name: str
    title: str
    without: float | None
    final: float | None
    words: str
    """What became of it, in at most some 16 characters."""


def pairs(key: str, title: str, rows: Sequence[Pair], show: Callable[[float], str]) -> Markup:
    """Return a bar up and a bar down for each run, with whiskers from the least to the most of a participant."""
    room = WIDTH - LEFT - RIGHT - WORDS
    most = max((value for row in rows for value in (*row.up, *row.down)), default=0.0) or 1.0
    parts: list[Markup] = []
    for i, row in enumerate(rows):
        top = 8 + i * 46
        parts.append(_title(row.title, top + 20))
        for j, (kind, values) in enumerate((("up", row.up), ("down", row.down))):
            mean, least, largest = values
            y, length = top + j * 17, room * mean / most
            ink = f"var(--{row.name})"
            style = {"fill": ink} if kind == "up" else {"fill": ink, "fill_opacity": "0.28", "stroke": ink}
            if largest:
                parts.append(tag("rect", x=LEFT, y=y, width=max(length, 1.0), height=13, rx=2, **style))
            end = LEFT + max(length, room * largest / most)
            if largest > least:
                a, b = LEFT + room * least / most, LEFT + room * largest / most
                d = f"M{a:.1f} {y + 6.5:.1f}H{b:.1f}M{a:.1f} {y + 3}V{y + 10}M{b:.1f} {y + 3}V{y + 10}"
                parts.append(tag("path", d=d, class_="whisker"))
            parts.append(
                tag("text", f"{'↑' if kind == 'up' else '↓'} {show(mean)}", x=end + 6, y=y + 11, class_="tick")
            )
    words = " ".join(f"{row.title}: {show(row.up[0])} up, {show(row.down[0])} down." for row in rows)
    return _svg(key, title, words, parts, 8 + len(rows) * 46)


def shifts(key: str, title: str, rows: Sequence[Shift], show: Callable[[float], str], scale: Scale) -> Markup:
    """Return a line for each run from its value without drop-outs (hollow) to that with them (filled)."""
    room = WIDTH - LEFT - RIGHT - WORDS
    height = 20 + len(rows) * 38 + 24
    parts: list[Markup] = []
    for value in scale.ticks(5):
        x = LEFT + room * scale.place(value)
        parts.append(tag("line", x1=x, y1=8, x2=x, y2=height - 26, class_="grid"))
        parts.append(tag("text", show(value), x=x, y=height - 8, text_anchor="middle", class_="tick"))
    for i, row in enumerate(rows):
        y = 28 + i * 38
        parts.append(_title(row.title, y + 4))
        places = [None if value is None else LEFT + room * scale.place(value) for value in (row.without, row.final)]
        without, final = places
        if without is not None and final is not None:
            parts.append(tag("line", x1=without, y1=y, x2=final, y2=y, stroke=f"var(--{row.name})", stroke_width=3))
        if without is not None:
            parts.append(marker(row.name, without, y, 5.5, hollow=True))
        if final is not None:
            parts.append(marker(row.name, final, y, 5))
        parts.append(tag("text", row.words, x=WIDTH - RIGHT, y=y + 4, text_anchor="end", class_="note"))
    words = " ".join(_shift_words(row, show) for row in rows)
    return _svg(key, title, words, parts, height)


def _shift_words(row: Shift, show: Callable[[float], str]) -> str:
    without = "nothing" if row.without is None else show(row.without)
    final = "nothing" if row.final is None else show(row.final)
    return f"{row.title}: {without} without drop-outs, {final} with them, {row.words}."


def _title(words: str, y: float) -> Markup:
    """Return a row's title, broken where it has a comma: there is not much room beside the bars."""
    lines = words.split(", ", 1)
    spans = (tag("tspan", line, x=LEFT - 10, dy="0" if i == 0 else "13") for i, line in enumerate(lines))
    return tag("text", *spans, y=y - 6.5 * (len(lines) - 1), text_anchor="end", class_="row")


def _svg(key: str, title: str, words: str, parts: Sequence[Markup], height: float) -> Markup:
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", words, id=f"{key}-desc"),
        *parts,
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )
