"""SIGTERM: how a process is asked to end, also when the asking falls into a moment that swallows exceptions."""

from __future__ import annotations

from types import FrameType
from typing import NoReturn

_asked = 0


def terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Handle the signal: raise SystemExit with 128 + its number."""
    global _asked
    _asked = signum
    raise SystemExit(128 + signum)


def check() -> None:
    """Raise SystemExit if ``terminate`` did and nobody noticed.

    Python runs a signal's handler between any two instructions, and an exception that it raises in a finalizer is
    printed and forgotten. So loops that wait look here now and then.
    """
    if _asked:
        raise SystemExit(128 + _asked)


def forget() -> None:
    """Begin anew, for a process that runs several commands."""
    global _asked
    _asked = 0
