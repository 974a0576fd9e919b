"""What becomes of an error of ours that a script does not catch: one line and its exit code, as under psctl worker."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from ps.errors import PSError


def report_in_one_line() -> None:
    """Have it so from now on, unless the script or what runs it (a notebook, a debugger) has a way of its own."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, PSError):
        _end(error)
    sys.__excepthook__(kind, error, trace)


def _end(error: PSError) -> NoReturn:
    """Say it, and have the interpreter end with the error's code: it takes a hook's SystemExit for its own."""
    name = Path(sys.argv[0]).name or "python"
    print(f"{name}: {'error: ' if error.exit_code else ''}{' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(error.exit_code)
