"""Look: the colour, dash and marker by which each run is known on the page, in light and in dark.

Colours follow Okabe and Ito, darkened or lightened until they stand out from the page; dashes and markers tell the
same to whoever sees no colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ps.compare.markup import Markup, tag

BACKGROUND = {"light": "#ffffff", "dark": "#14171c"}


@dataclass(frozen=True, slots=True)
class Look:
    """How one run is drawn."""

    light: str
    dark: str
    dash: str | None
    marker: str


LOOKS = {
    "centralized": Look("#3b3f46", "#d5d9e0", "9 4", "circle"),
    "sync": Look("#0065a3", "#6cbdf2", None, "square"),
    "async": Look("#a35f00", "#f0b13c", None, "up"),
    "ssp": Look("#a3437d", "#ef9dcb", None, "diamond"),
    "federated-iid": Look("#00785a", "#35c99b", "5 3", "down"),
    "federated-non-iid": Look("#cc4100", "#ff8f5e", "2 3", "cross"),
}


def line_style(name: str) -> dict[str, str | None]:
    """Return the attributes of a run's line."""
    return {"class_": "line", "stroke": f"var(--{name})", "stroke_dasharray": LOOKS[name].dash}


def marker(name: str, x: float, y: float, size: float = 3.6, *, hollow: bool = False) -> Markup:
    """Return a run's marker around a point; a cross has no inside and is always drawn by its lines."""
    corners = {"square": (4, 45), "up": (3, -90), "diamond": (4, 0), "down": (3, 90)}
    kind, ink = LOOKS[name].marker, f"var(--{name})"
    fill = "var(--page)" if hollow else ink
    if kind == "circle":
        return tag("circle", cx=x, cy=y, r=size * 0.95, fill=fill, stroke=ink, stroke_width=1.5)
    if kind == "cross":
        a = size * 0.9
        d = f"M{x - a:.1f} {y - a:.1f}L{x + a:.1f} {y + a:.1f}M{x - a:.1f} {y + a:.1f}L{x + a:.1f} {y - a:.1f}"
        return tag("path", d=d, fill="none", stroke=ink, stroke_width=1.4 if hollow else 2.4)
    count, turn = corners[kind]
    points = [
        (x + size * 1.25 * math.cos(angle), y + size * 1.25 * math.sin(angle))
        for angle in (math.radians(turn + 360 * i / count) for i in range(count))
    ]
    shape = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    return tag("polygon", points=shape, fill=fill, stroke=ink, stroke_width=1.5)


def swatch(name: str) -> Markup:
    """Return a small piece of a run's line with its marker, for a legend. Its title stands beside it."""
    line = tag("line", x1=1, y1=7, x2=33, y2=7, **line_style(name))
    return tag("svg", line, marker(name, 17, 7), viewBox="0 0 34 14", width="34", height="14", aria_hidden="true")


def variables(theme: str) -> str:
    """Return the CSS variables with every run's colour in a theme."""
    return "".join(f"--{name}:{look.light if theme == 'light' else look.dark};" for name, look in LOOKS.items())
