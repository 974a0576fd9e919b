"""Markup: elements of HTML and SVG with everything escaped that is not markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is markup, and is not escaped again."""

    text: str


Node = Markup | str | None


def tag(name: str, *children: Node, **attributes: Any) -> Markup:
    """Return an element. Strings among the children are escaped, None is left out.

    Attributes are written in the order given: ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``; numbers
    have at most two decimals; those that are None are left out.
    """
    words = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    content = join(*children).text
    return Markup(f"<{name}{words}>{content}</{name}>")


def join(*children: Node) -> Markup:
    """Return children one after the other."""
    parts = (child.text if isinstance(child, Markup) else html.escape(child) for child in children if child is not None)
    return Markup("".join(parts))


def table(
    head: Iterable[str], rows: Iterable[Iterable[Node]], caption: str, *, numbers_from: int = 1, stacked: bool = False
) -> Markup:
    """Return a table whose first column heads its rows; ``stacked`` ones become a block for each row on a phone.

    Columns from ``numbers_from`` on are aligned to the right. It scrolls sideways in a region that keys can reach.
    """
    names = list(head)
    titles = [tag("th", name, scope="col", class_="n" if i >= numbers_from else None) for i, name in enumerate(names)]
    body = [
        tag(
            "tr",
            *(
                tag("th", cell, scope="row")
                if i == 0
                else tag("td", cell, data_label=names[i], class_="n" if i >= numbers_from else None)
                for i, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    found = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *body),
        class_="stacked" if stacked else None,
    )
    return tag("div", found, class_="scroll", tabindex="0", role="region", aria_label=caption)


def details(summary: str, *children: Node) -> Markup:
    """Return what is shown when somebody asks for it."""
    return tag("details", tag("summary", summary), *children)


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(str(value))
