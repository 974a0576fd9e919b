"""Watchdog: a process beside this one that ends the runs it began when this one is gone, however it died.

A run is a command as anybody could type it and knows nothing of us, so it cannot notice by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from ps import interpreter

MARGIN = 5.0
"""Seconds that a run has beyond the grace of its processes, to kill them and to write its record."""
NAP = 0.2

Kill = Callable[[int, int], None]


class Watchdog:
    """Told which process groups are ours, it ends those that are left when its input does. A context manager."""

    def __init__(self, grace: float) -> None:
        """``grace``: seconds that the processes of a run have to end."""
        self.patience = grace + MARGIN
        self._process = subprocess.Popen(
            [*interpreter.command("ps.compare.watchdog"), str(self.patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def begin(self, group: int) -> None:
        """Note a process group that is not to outlive us."""
        self._tell(f"+{group}")

    def end(self, group: int) -> None:
        """Forget a process group: it has ended."""
        self._tell(f"-{group}")

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # without its watchdog a run is still bounded in time
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def keep(lines: Iterable[str], kill: Kill, rest: Callable[[float], None], patience: float) -> None:
    """Follow which groups begin (``+7``) and end (``-7``); once the lines end, end the groups that are left.

    They are asked to end, and killed after ``patience`` seconds.
    """
    groups: set[int] = set()
    for line in lines:
        sign, group = line[:1], int(line[1:])
        if sign == "+":
            groups.add(group)
        else:
            groups.discard(group)
    left = {group for group in groups if _is_there(group, signal.SIGTERM, kill)}
    while left and patience > 0:
        rest(NAP)
        patience -= NAP
        left = {group for group in left if _is_there(group, 0, kill)}
    for group in left:
        _is_there(group, signal.SIGKILL, kill)


def _is_there(group: int, signum: int, kill: Kill) -> bool:
    try:
        kill(group, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    keep(sys.stdin, os.killpg, time.sleep, float(sys.argv[1]))
