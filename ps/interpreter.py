"""Interpreter: the command that runs a module of ours in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path


def command(module: str) -> tuple[str, ...]:
    """Return how to run a module of ours, whatever lies in the working directory.

    ``python -m`` alone would look there first, and take a ``queue.py`` of the user's for the standard library's.
    """
    return (sys.executable, *([] if _found_by_place() else ["-P"]), "-m", module)


def _found_by_place() -> bool:
    """Whether this package is found only because it lies where this process was started."""
    root = Path(__file__).resolve().parent.parent
    if sys.flags.safe_path or not sys.path or Path(sys.path[0]).resolve() != root:
        return False
    return all(Path(entry).resolve() != root for entry in sys.path[1:])
