"""The directory in which a run leaves its record. One directory holds one run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ps.errors import PSError, UsageError
from ps.lock import Lock
from ps.record_files import METRICS, ROUNDS, SUMMARY
from ps.record_lives import RecordLives
from ps.regular_file import read_regular, reason, shown
from ps.whole import write_whole

SCHEDULER = "scheduler"
"""Holds the scheduler's address while the run goes on, for whoever wants to ask it."""

LONGEST_ADDRESS = 4096
"""Bytes of an address, at most."""


@contextlib.contextmanager
def claimed(directory: str, *, goes_on: bool = False, run: str = "") -> Iterator[Path]:
    """Make the directory, hold it for one run, and yield its absolute path.

    UsageError when it cannot be written, or holds the record of an earlier run: two runs in one file
    could not be told apart, and overwriting would lose the first. A run that ``goes_on`` with what another one
    has left takes the next directory that is free then, but the same one where that has the record of this ``run``.
    ConfigError when another run has it now.
    """
    try:
        path = Path(directory).absolute()
        if goes_on and _record_in(path, run):
            path = _next_free(path)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write to the run directory {shown(directory)}: {reason(error)}") from None
    name = os.path.relpath(path) if goes_on else directory
    lock = Lock(path / "run", what=f"the run directory {name}", advice="give every run a --run-dir of its own")
    try:
        if record := _record_in(path, run):
            raise UsageError(
                f"the run directory {name} holds the record of an earlier run ({record}); "
                f"remove it, or try: --run-dir {os.path.relpath(_next_free(path))}"
            )
        yield path
    finally:
        with contextlib.suppress(OSError):
            (path / SCHEDULER).unlink()
        lock.release()


def wanted(directory: str | None, *, goes_on: bool, run: str) -> contextlib.AbstractContextManager[Path | None]:
    """Return ``claimed`` of a directory, if one is asked for."""
    return contextlib.nullcontext() if directory is None else claimed(directory, goes_on=goes_on, run=run)


def announce(directory: Path, address: str) -> None:
    """Say where the scheduler of the run in this directory is. A disk that is full costs only that."""
    with contextlib.suppress(PSError):
        write_whole(directory / SCHEDULER, f"{address}\n")


def scheduler_of(directory: Path) -> str:
    """Return the address of the scheduler of the run in this directory; nothing where no run goes on."""
    try:
        return read_regular(directory / SCHEDULER, LONGEST_ADDRESS).decode().strip()
    except (OSError, ValueError):
        return ""


def _record_in(path: Path, run: str) -> str:
    """Return the name of a file that an earlier run has left, if one did that was not the same ``run``."""
    if run and (latest := RecordLives.read(path).latest) is not None and latest.run == run:
        return ""
    return next((name for name in (METRICS, SUMMARY, ROUNDS) if (path / name).exists()), "")


def _next_free(path: Path) -> Path:
    number = 2
    while (free := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return free
