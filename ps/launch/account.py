"""Account: a file without a name in which a scheduler tells its launcher of every round, whether anybody asked or not.

It is handed over as an open descriptor: whoever clears temporary folders does not take it away, and what a scheduler
that was killed had told is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "PS_ACCOUNT_FD"

Entry = Mapping[str, Any]


class Account:
    """The launcher's side."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115

    @property
    def fd(self) -> int:
        """What the scheduler is to inherit."""
        return self._file.fileno()

    def read(self) -> Iterator[tuple[float, Entry]]:
        """Yield what was told: Unix time and a status of the rounds, whose history has the rounds that were new."""
        self._file.seek(0)
        for line in self._file:
            try:
                entry = json.loads(line)
                yield entry["t"], entry["status"]
            except (ValueError, KeyError, TypeError):  # torn: the disk was full, or the scheduler was killed
                continue

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def teller(fd: int | None) -> Callable[[Entry], None]:
    """Return what a scheduler calls with a status; it never raises, and does nothing without a descriptor."""

    def tell(status: Entry) -> None:
        if fd is None:
            return
        data = json.dumps({"t": time.time(), "status": status}, default=str).encode() + b"\n"
        with contextlib.suppress(OSError):  # a full disk: the launcher still has what it asked for
            while data:
                data = data[os.write(fd, data) :]

    return tell
