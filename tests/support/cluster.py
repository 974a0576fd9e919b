"""Cluster: the roles of a job as separate real processes, which a test starts, stops, kills and listens to.

Every wait has a bound, and every process is ended by its own process group when the cluster closes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ps.errors import PSError
from ps.protocol.query import fetch_status
from support import fork_server

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "e2e" / "scripts"
TRAIN = str(SCRIPTS / "train.py")
DIGITS = str(ROOT / "ps" / "examples" / "digits.py")
PSCTL = (sys.executable, "-m", "ps.cli")

PATIENCE = 40.0
"""Seconds after which something that takes one or two counts as never having happened."""


def clean_environment(**given: str) -> dict[str, str]:
    """Return this environment without our own variables, with one thread for each process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PS_") and name != "RANK"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **threads, "PYTHONUNBUFFERED": "1", **given}


def terminal(columns: int) -> tuple[int, int]:
    """Return both ends of a terminal: the one to read from, and the one that a process prints to."""
    read, write = os.openpty()
    fcntl.ioctl(write, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    return read, write


class Process:
    """A process in a group of its own, whose lines are read as they come."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: dict[str, str],
        fds: Sequence[int] = (),
        cwd: Path = ROOT,
        columns: int = 0,
        *,
        forked: bool = False,
        loaded: Sequence[str] = (),
    ) -> None:
        """``columns``: it prints to a terminal of that width, if any; ``forked``: it is one, where it can be.

        ``loaded`` are libraries that it has then.
        """
        self.name = name
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.began = time.monotonic()
        read, write = terminal(columns) if columns else os.pipe()
        self._output = os.fdopen(read, errors="replace")
        self._popen: fork_server.Forked | subprocess.Popen[bytes]
        if forked and tuple(command[:3]) == PSCTL and fork_server.can_be(env):
            self._popen = fork_server.Forked(command[1:], env, cwd, (write, write), fds, loaded)
        else:
            self._popen = subprocess.Popen(
                list(command),
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(fds),
                start_new_session=True,
            )
        os.close(write)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._output as lines, contextlib.suppress(OSError):  # EIO: a terminal's way to say that nobody is left
            for line in lines:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """The exit code as subprocess has it (negative for a signal), or None while it runs."""
        return self._popen.poll()

    @property
    def text(self) -> str:
        """Everything it printed so far."""
        return "\n".join(self.lines)

    def count(self, word: str) -> int:
        """Return how many lines it has printed that begin with a word."""
        return sum(line.startswith(f"{word} ") for line in list(self.lines))

    def wait_for(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Return the match in the first line that has one; fail when it ends or the time does without such a line."""
        deadline, seen = time.monotonic() + timeout, 0
        while True:
            with self._news:
                while seen < len(self.lines):
                    if match := re.search(pattern, self.lines[seen]):
                        return match
                    seen += 1
                if not self._reader.is_alive() or time.monotonic() > deadline:
                    state = f"exit code {self.code}" if not self._reader.is_alive() else "still running"
                    raise AssertionError(f"{self.name} never said {pattern!r} ({state}):\n{self.text[-4000:]}")
                self._news.wait(0.2)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code; fail when it does not end in time."""
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout:g} s:\n{self.text[-4000:]}") from None
        self._reader.join(5.0)
        return self._popen.returncode

    def signal(self, signum: int) -> None:
        """Signal the process itself."""
        if self.code is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._popen.wait(10)

    def stop(self) -> None:
        """SIGSTOP: it lives and does nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill whatever is left of its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(10)
        self._reader.join(2.0)

    @staticmethod
    def signal_pid(pid: int, signum: int) -> None:
        """Signal a process that another one started for us."""
        os.kill(pid, signum)

    @staticmethod
    def child(pid: int, word: str) -> int:
        """Return the pid of the child of ``pid`` that has a role."""
        found = [each for each, role in fork_server.family(pid).items() if role == word]
        assert found, f"process {pid} has no child {word}"
        return found[0]

    def rss(self) -> int:
        """Bytes of memory resident now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Cluster:
    """One job: a scheduler, servers and workers, each started by hand."""

    def __init__(
        self,
        *flags: str,
        servers: int = 1,
        workers: int = 2,
        state: bool = False,
        durable: bool = False,
        joining: int | None = None,
        forked: bool = True,
        **job: Any,
    ) -> None:
        """Start a scheduler and servers. ``job`` are the job's settings, ``flags`` more of the scheduler's.

        ``state``: the scheduler has a state file; ``durable``: so have the servers, for a federated job; ``joining``:
        so many servers are started here, all unless it is said; ``forked``: by the fork server, where they can be.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="e2e-"))
        self.env = clean_environment(TMPDIR=str(self.directory))
        self.processes: list[Process] = []
        given = {"heartbeat_timeout": 1.5, "optimizer": "sgd:lr=0.002", **job}
        named = [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        self._flags = ["-s", str(servers), "-w", str(workers), *named, *flags]
        self._state = ["--state", str(self.directory / "scheduler.db")] if state else []
        self._durable = durable
        self._forked = forked
        try:
            self.start_scheduler()
            self.servers = [self._server(rank) for rank in range(servers if joining is None else joining)]
        except BaseException:
            self.close()
            raise
        self.workers: list[Process] = []

    def start_scheduler(self) -> Process:
        """Start the scheduler, the first time at a free port, later where it was."""
        port = self.address.rpartition(":")[2] if hasattr(self, "address") else "0"
        read, write = os.pipe()
        env = {**self.env, "PS_READY_FD": str(write)}
        command = [*PSCTL, "scheduler", "--port", port, *self._flags, *self._state]
        self.scheduler = Process("scheduler", command, env, [write], forked=self._forked)
        self.processes.append(self.scheduler)
        os.close(write)
        with os.fdopen(read) as ready:
            address = ready.readline().strip()
        assert address, f"the scheduler did not start:\n{self.scheduler.wait(5)}\n{self.scheduler.text}"
        self.address = address
        return self.scheduler

    def _server(self, rank: int) -> Process:
        state = ["--state", str(self.server_state(rank))] if self._durable else []
        return self.start("server", "--rank", str(rank), *state)

    def server_state(self, rank: int) -> Path:
        """Return what a durable server's state files begin with."""
        return self.directory / f"server-{rank}.state"

    def restart_server(self, rank: int) -> Process:
        """Start a server in the place of one that is gone."""
        self.servers[rank] = self._server(rank)
        return self.servers[rank]

    def start(self, role: str, *args: str, **env: str) -> Process:
        """Start a server or worker; ``args`` are its command line's."""
        number = sum(process.name.startswith(role) for process in self.processes)
        command = [*PSCTL, role, "--scheduler", self.address, *args]
        process = Process(f"{role} {number}", command, {**self.env, **env}, forked=self._forked)
        self.processes.append(process)
        return process

    def worker(self, script: str, *args: object, rank: int | None = None, **env: str) -> Process:
        """Start one worker."""
        flags = [] if rank is None else ["--rank", str(rank)]
        process = self.start("worker", *flags, script, *map(str, args), **env)
        self.workers.append(process)
        return process

    def train(self, count: int, *args: object, script: str = TRAIN) -> list[Process]:
        """Start ``count`` workers with ranks 0, 1, … and the same arguments."""
        return [self.worker(script, *args, rank=rank) for rank in range(count)]

    def path(self, name: str) -> Path:
        """Return a path in the cluster's own directory."""
        return self.directory / name

    def status(self) -> dict[str, Any]:
        """Return what ``psctl status --json`` prints."""
        return _plain(fetch_status(self.address, 5.0))

    def wait_status(self, holds: Callable[[dict[str, Any]], Any], timeout: float = PATIENCE) -> dict[str, Any]:
        """Return the first status for which ``holds``; fail when there is none in time."""
        deadline, status = time.monotonic() + timeout, {}
        while time.monotonic() < deadline:
            with contextlib.suppress(PSError):
                status = _plain(fetch_status(self.address, 2.0))
                if holds(status):
                    return status
            time.sleep(0.05)
        raise AssertionError(f"it never happened; the last status: {status}")

    def wait_clock(self, clock: int, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait until a live worker has done so many steps."""
        return self.wait_status(lambda status: any(w["clock"] >= clock for w in live_workers(status)), timeout)

    def close(self) -> None:
        """End every process and remove the directory."""
        for process in reversed(self.processes):
            process.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain(status: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(status))
    return plain


def live_workers(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the workers that live."""
    return [worker for worker in status.get("workers", []) if worker["state"] == "live"]


def result(process: Process) -> dict[str, str]:
    """Return what train.py said in the end: rank, clock, digest, loss."""
    line = process.wait_for(r"^result (.*)$")[1]
    return dict(part.split("=", 1) for part in line.split())


def is_running(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until(holds: Callable[[], Any], timeout: float = PATIENCE) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
