"""The directory in which a run leaves its record. One directory holds one run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ps.errors import UsageError

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
ROUNDS = "rounds.jsonl"


def prepare(directory: str) -> Path:
    """Make the directory and return its absolute path.

    UsageError when it cannot be written, or holds the record of an earlier run: two runs in one file
    could not be told apart, and overwriting would lose the first.
    """
    path = Path(directory).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to the run directory {directory}: {error.strerror}") from None
    for name in (METRICS, SUMMARY, ROUNDS):
        if (path / name).exists():
            raise UsageError(
                f"the run directory {directory} holds the record of an earlier run ({name}); "
                f"remove it, or try: --run-dir {_next_free(path)}"
            )
    return path


def _next_free(path: Path) -> str:
    number = 2
    while (free := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return os.path.relpath(free)
