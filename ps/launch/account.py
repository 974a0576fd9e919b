"""Account: a file without a name in which a scheduler tells its launcher of every round, and in the end who was there.

Nobody needs to ask. It is handed over as an open descriptor: whoever clears temporary folders does not take it away,
and what a scheduler that was killed had told is there.
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

from ps.json_lines import finite, parse_object

VARIABLE = "PS_ACCOUNT_FD"

Entry = Mapping[str, Any]
"""What is told, called as in a status: ``federated`` with the ``history`` of new rounds, and in the end all of it."""


class Account:
    """The launcher's side."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115

    @property
    def fd(self) -> int:
        """What the scheduler is to inherit."""
        return self._file.fileno()

    def read(self) -> Iterator[tuple[float, Entry]]:
        """Yield what was told: Unix time and entry."""
        self._file.seek(0)
        for line in self._file:
            entry = parse_object(line)  # None: torn, since the disk was full, or the scheduler was killed
            if entry is not None and (moment := finite(entry.get("t"))) is not None:
                yield moment, entry

    def end(self) -> Entry:
        """Return the status as a scheduler that has ended saw it last; nothing before that."""
        return next((entry for _, entry in self.read() if "workers" in entry), {})

    @property
    def is_cut_short(self) -> bool:
        """Whether the rounds ended before their number, since the privacy budget was spent."""
        found = [entry.get("federated") for _, entry in self.read()]
        return any(((rounds or {}).get("privacy") or {}).get("cut_short") for rounds in found)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def teller(fd: int | None) -> Callable[[Entry], None]:
    """Return what a scheduler calls with something to tell; it never raises, and does nothing without a descriptor."""

    def tell(entry: Entry) -> None:
        if fd is None:
            return
        data = json.dumps({"t": time.time(), **entry}, default=str).encode() + b"\n"
        with contextlib.suppress(OSError):  # a full disk: the launcher still has what it asked for
            while data:
                data = data[os.write(fd, data) :]

    return tell
