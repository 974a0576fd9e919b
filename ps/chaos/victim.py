"""Victim: a process of a job on this host. It is certain that it is that process, or nothing is done to it.

A process id alone is nobody's: it may be another's by now. So the process is opened first (``pidfd_open``), then
compared with what the member had said of itself (``ps.protocol.pid``), and signalled through what was opened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from ps.errors import ConfigError
from ps.protocol import pid


def identity(row: Mapping[str, Any]) -> tuple[int, str]:
    """Return what tells the process of a member's row in a status from all others."""
    return int(row.get("pid") or 0), str(row.get("mark") or "")


class Victim:
    """``row``: a member's of a status. Raises ConfigError with why it cannot be harmed."""

    def __init__(self, role: str, row: Mapping[str, Any], realm: str) -> None:
        self.identity = self.pid, mark = identity(row)
        self.role, self.rank = role, int(row.get("rank") or 0)
        self._fd = -1
        if not hasattr(os, "pidfd_open") or not realm:
            raise ConfigError("processes can be harmed on Linux only")
        if self.pid in (os.getpid(), os.getppid()) or self.pid <= 1:
            raise ConfigError(f"{self} has a process id that is not its own")
        try:
            self._fd = os.pidfd_open(self.pid)
        except OSError as error:
            raise ConfigError(f"{self} is not on this host, or has ended ({error.strerror})") from None
        if not pid.is_here(self.pid, mark, realm):
            self.close()
            raise ConfigError(f"{self} is not on this host, or in another container: run psctl chaos there too")

    def signal(self, signum: int) -> str:
        """Signal it; return what went wrong, if anything did."""
        try:
            signal.pidfd_send_signal(self._fd, signum)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __str__(self) -> str:
        rank = "" if self.role == "scheduler" else f" {self.rank}"
        return f"{self.role}{rank} (pid {self.pid})"
