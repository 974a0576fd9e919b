"""TimedJob: a ``psctl run`` whose workers say when they have done which step, for what is measured from outside."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ps.errors import ConnectTimeout
from ps.protocol.query import fetch_status

SCRIPT = Path(__file__).with_name("timed_step.py")
PATIENCE = 90.0
STEP = re.compile(r"step (\d+) (\d+) ([\d.]+) ([\d.]+)")


class TimedJob:
    """``steps`` has of each rank the clock, the end by the system's monotonic clock, and the seconds of its steps."""

    def __init__(self, flags: Sequence[str], workers: int, mb: float, *, nap: float = 0.0, work: float = 0.0) -> None:
        """``nap``: seconds that a worker waits in each step; ``work``: milliseconds that it computes."""
        command = [sys.executable, "-m", "ps.cli", "run", "-w", str(workers), *flags, str(SCRIPT), str(mb), str(nap)]
        self.process = subprocess.Popen(
            [*command, str(work)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.steps: dict[int, list[tuple[int, float, float]]] = {rank: [] for rank in range(workers)}
        self.address = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := STEP.search(line):
                self.steps[int(found[1])].append((int(found[2]), float(found[3]), float(found[4])))
                continue
            self.lines.append(line)
            if found := re.search(r"scheduler at (tcp://\S+)", line):
                self.address = found[1]

    def wait_until(self, holds: Callable[[], Any], what: str) -> None:
        """Wait for something. Raises SystemExit when it never comes."""
        until = time.monotonic() + PATIENCE
        while not holds():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{what} never came:\n" + "".join(self.lines[-30:]))
            time.sleep(0.02)

    def wait(self, steps: int) -> None:
        """Wait for so many more steps of the worker with rank 0."""
        wanted = len(self.steps[0]) + steps
        self.wait_until(lambda: len(self.steps[0]) >= wanted, f"step {wanted}")

    def status(self) -> dict[str, Any]:
        """Return the job's status; nothing where it cannot be had now."""
        try:
            return fetch_status(self.address) if self.address else {}
        except ConnectTimeout:
            return {}

    def servers(self) -> list[dict[str, Any]]:
        """Return the rows of the servers that live."""
        return [row for row in self.status().get("servers", []) if row["state"] == "live"]

    def close(self) -> None:
        """End it: by SIGINT, then, since nothing of it is wanted, for certain."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def between(steps: Sequence[tuple[int, float, float]], lo: float, hi: float) -> list[float]:
    """Return the seconds of the steps that fall at least in part between two moments."""
    return [took for _, end, took in steps if end > lo and end - took < hi]
