"""Reading a run's record: lines of JSON, whole or as they are written. What is torn or no record is passed over."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ps.json_lines import finite, objects, parse_object
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
        return list(objects(whole.decode(errors="replace").split("\n")))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return what a file of lines holds, in its order; nothing when there is no file."""
    try:
        with io.TextIOWrapper(open_regular(path), errors="replace") as file:
            return list(objects(file))
    except (OSError, ValueError):
        return []


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a file holds; an empty one when it holds none."""
    try:
        return parse_object(read_regular(path, LARGEST).decode(errors="replace")) or {}
    except (OSError, ValueError):
        return {}


def number(line: dict[str, Any], key: str) -> float | None:
    """Return a line's number of this name, if it has one that is finite."""
    return finite(line.get(key))
