"""Plot: a metric over something, a line for each run, as an SVG that stands in the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ps.compare.look import line_style, marker
from ps.compare.markup import Markup, tag
from ps.compare.scale import Scale, along

WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 42
MOST_MARKERS = 9


@dataclass(frozen=True, slots=True)
class Line:
    """One run's values: ``name`` is the run's, ``points`` are (x, y) in order."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: what it counts, and how its marks are written."""

    title: str
    show: Callable[[float], str]


def plot(key: str, title: str, lines: Sequence[Line], x: Axis, y: Axis, up: Scale) -> Markup:
    """Return a plot; ``key`` makes its ids unique on the page, ``up`` is the scale of y.

    The x axis is logarithmic when runs end far apart, and says so. A run that never leaves x = 0 is drawn as a level at
    its last value.
    """
    across = along([[px for px, _ in line.points] for line in lines])
    parts = [*_grid(across, up, x, y)]
    for line in lines:
        parts += _level(line, up) if _is_level(line) else _line(line, across, up)
    words = f"{y.title} over {x.title}. " + " ".join(_words(line, x, y) for line in lines)
    return tag(
        "svg",
        tag("title", title, id=f"{key}-title"),
        tag("desc", words, id=f"{key}-desc"),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def _px(scale: Scale, value: float) -> float:
    return LEFT + scale.place(value) * (WIDTH - LEFT - RIGHT)


def _py(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - TOP - BOTTOM)


def _grid(across: Scale, up: Scale, x: Axis, y: Axis) -> list[Markup]:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in up.ticks(8):
        at = _py(up, value)
        parts.append(tag("line", x1=LEFT, y1=at, x2=right, y2=at, class_="grid"))
        parts.append(tag("text", y.show(value), x=LEFT - 7, y=at + 4, text_anchor="end", class_="tick"))
    for value in across.ticks():
        at = _px(across, value)
        parts.append(tag("line", x1=at, y1=floor, x2=at, y2=floor + 4, class_="axis"))
        parts.append(tag("text", x.show(value), x=at, y=floor + 17, text_anchor="middle", class_="tick"))
    parts.append(tag("line", x1=LEFT, y1=floor, x2=right, y2=floor, class_="axis"))
    words = f"{x.title} (logarithmic)" if across.kind == "log" else x.title
    parts.append(tag("text", words, x=(LEFT + right) / 2, y=HEIGHT - 6, text_anchor="middle", class_="label"))
    return parts


def _is_level(line: Line) -> bool:
    return bool(line.points) and all(x <= 0 for x, _ in line.points)


def _level(line: Line, up: Scale) -> list[Markup]:
    at = _py(up, line.points[-1][1])
    return [
        tag("line", x1=LEFT, y1=at, x2=WIDTH - RIGHT, y2=at, **line_style(line.name)),
        marker(line.name, LEFT, at),
    ]


def _line(line: Line, across: Scale, up: Scale) -> list[Markup]:
    points = [(_px(across, x), _py(up, y)) for x, y in line.points if x > 0 or across.kind != "log"]
    if not points:
        return []
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    step = max(1, -(-len(points) // MOST_MARKERS))
    shown = points[::-1][::step]  # the last point always: it is the result
    return [
        tag("polyline", points=path, fill="none", **line_style(line.name)),
        *(marker(line.name, px, py) for px, py in shown),
    ]


def _words(line: Line, x: Axis, y: Axis) -> str:
    if not line.points:
        return f"{line.name}: not evaluated."
    px, py = line.points[-1]
    return f"{line.name} ends with {y.show(py)} at {x.show(px)}."
