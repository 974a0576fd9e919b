"""Reading a run's record: lines of JSON, whole or as they are written. What is torn or no record is passed over."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ps.regular_file import open_regular, read_regular

LARGEST = 64 << 20
"""Bytes of a file that holds one object, at most."""


class Follow:
    """A file of lines that somebody else is writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> list[dict[str, Any]]:
        """Return the lines that are complete since the last call; none while there is no file."""
        try:
            with open_regular(self._path) as file:
                file.seek(self._offset)
                data = file.read()
        except (OSError, ValueError):
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_parse(whole.decode(errors="replace").split("\n")))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return what a file of lines holds, in its order; nothing when there is no file."""
    try:
        with io.TextIOWrapper(open_regular(path), errors="replace") as file:
            return list(_parse(file))
    except (OSError, ValueError):
        return []


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a file holds; an empty one when it holds none."""
    try:
        value = json.loads(read_regular(path, LARGEST).decode(errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def number(line: dict[str, Any], key: str) -> float | None:
    """Return a line's number of this name, if it has one that is finite."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None


def _parse(lines: Iterator[str] | list[str]) -> Iterator[dict[str, Any]]:
    for text in lines:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
