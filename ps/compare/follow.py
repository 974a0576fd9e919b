"""Reading a run's record: lines of JSON, whole or as they are written. What is torn or no record is passed over."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Follow:
    """A file of lines that somebody else is writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> list[dict[str, Any]]:
        """Return the lines that are complete since the last call; none while there is no file."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_parse(whole.decode(errors="replace").split("\n")))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return what a file of lines holds, in its order; nothing when there is no file."""
    try:
        with path.open(errors="replace") as file:
            return list(_parse(file))
    except OSError:
        return []


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a file holds; an empty one when it holds none."""
    try:
        value = json.loads(path.read_text(errors="replace"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def number(line: dict[str, Any], key: str) -> float | None:
    """Return a line's number of this name, if it has one that is finite."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _parse(lines: Iterator[str] | list[str]) -> Iterator[dict[str, Any]]:
    for text in lines:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
