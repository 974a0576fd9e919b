"""Fitting: what is for people is cut to its range when it is sent, so that no word of a user's keeps a message back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_origin

import msgpack

from ps.protocol.fields import bare
from ps.protocol.ranges import AtMost
from ps.text import shortened

Fit = Callable[[Any], Any]

MOST_KEY = 100
"""Characters of a key in a report."""
MOST_TEXT = 300
"""Characters of a text in a report."""
MOST_ITEMS = 100
"""Elements of a list or of a map in a report."""
MOST_LEVELS = 4
_LOW, _HIGH = -(1 << 63), (1 << 63) - 1


def fit_of(kind: Any) -> Fit | None:
    """Return what makes a value fit a field that is cut when it is sent; nothing for any other field."""
    plain, bound = bare(kind)
    if not isinstance(bound, AtMost) or not bound.cut:
        return None
    most = bound.count
    if get_origin(plain) is dict:
        return lambda report: fitted(report, most)
    return lambda text: cut(text, most)


def cut(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters that can be written as UTF-8."""
    short = shortened(text, most)
    return short if short.isascii() else short.encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """Return a text without what moves a terminal's cursor, changes its colours or begins a new line."""
    return (
        text
        if text.isprintable()
        else "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    )


def fitted(report: dict[str, Any], most: int) -> dict[str, Any]:
    """Return a report that takes at most ``most`` bytes: entries that would make it longer are left out."""
    kept: dict[str, Any] = {}
    left = most - 5
    for key, value in report.items():
        name, plain = cut(str(key), MOST_KEY), _plain(value, MOST_LEVELS)
        size = len(msgpack.packb(name)) + len(msgpack.packb(plain))
        if size <= left:
            kept[name] = plain
            left -= size
    return kept


def _plain(value: Any, levels: int) -> Any:
    """Return a value that can be sent and shown, near to the one that is given."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return cut(value, MOST_TEXT)
    if isinstance(value, int):
        return int(value) if _LOW <= value <= _HIGH else None
    if isinstance(value, float):
        return float(value)
    if levels and isinstance(value, dict):
        return {cut(str(key), MOST_KEY): _plain(item, levels - 1) for key, item in list(value.items())[:MOST_ITEMS]}
    if levels and isinstance(value, list | tuple):
        return [_plain(item, levels - 1) for item in value[:MOST_ITEMS]]
    return None
