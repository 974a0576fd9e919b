"""A launcher to start in a process of its own, and to ask whether it left anything behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Launch:
    """One run of the launcher with fake processes."""

    def __init__(self, directory: Path, script: str, **given: Any) -> None:
        self.pids = directory / "pids"
        self.temporary = directory / "tmp"
        for path in (self.pids, self.temporary):
            path.mkdir()
        (directory / "script.py").write_text(script)
        env = {**os.environ, "FAKE_PIDS": str(self.pids), "TMPDIR": str(self.temporary)}
        env |= {name: given.pop(name) for name in list(given) if name.isupper()}
        plan = {"script": str(directory / "script.py"), "servers": 1, "workers": 2, "args": [], "process": {}}
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("launcher.py")), json.dumps({**plan, **given})],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out = self.err = ""

    def finish(self, timeout: float = 20.0) -> int:
        """Wait for the launcher to end, and return its exit code."""
        self.out, self.err = self.process.communicate(timeout=timeout)
        return self.process.returncode

    def wait_for_processes(self, count: int) -> None:
        """Wait until so many fake processes have announced themselves."""
        wait_until(lambda: len(self.children()) >= count, 10.0)

    def children(self) -> list[int]:
        """Return the pids of all processes that were ever started."""
        return [int(path.name) for path in self.pids.iterdir()]

    def left(self) -> list[int]:
        """Return the pids of those that still run."""
        return [pid for pid in self.children() if is_running(pid)]

    def assert_nothing_left(self) -> None:
        assert self.left() == []
        assert list(self.temporary.iterdir()) == []


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Any]:
    """Start a launcher; whatever a failing test leaves behind is killed."""
    launches: list[Launch] = []

    def start(script: str, **given: Any) -> Launch:
        launches.append(Launch(tmp_path, script, **given))
        return launches[-1]

    yield start
    for one in launches:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()
        for pid in one.left():
            os.kill(pid, signal.SIGKILL)
