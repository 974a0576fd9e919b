"""A process that has loaded what the roles of a job load, and forks itself for each ``psctl`` that tests ask it for.

A role starts in 20 ms so, instead of in half a second of one core. What could hide here is what goes wrong while
modules load: whatever ``psctl run`` starts, the commands of the documents and all of ``launch/`` are real processes.
Nothing happens in this one but that: no thread is started, no socket of ZeroMQ opened, no BLAS called.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOADED = (
    "ps.cli.app",
    "ps.cli.roles",
    "ps.server.scheduler.service",
    "ps.server.shard.service",
    "ps.worker",
    "ps.models.mlp",
)
LONGEST = 1 << 17
"""Bytes of a request: a command line and an environment."""
MOST_FDS = 16
STARTED = 30.0
"""Seconds in which a process is there, and all is loaded before the first."""
ENDED = 5.0
"""Seconds that the last ones have to end after the tests."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", *THREADS)
"""Beginnings of variables that are read while a process starts: with others than here it must be one of its own."""


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PS_")}
    return {**kept, **dict.fromkeys(THREADS, "1"), "PYTHONUNBUFFERED": "1"}


def _of_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(AT_START)}


def can_be(env: Mapping[str, str]) -> bool:
    """Whether a process with this environment can be one that is forked."""
    return _of_start(env) == _of_start(_environment())


class Forked:
    """What ``subprocess.Popen`` is, of a process that was forked here: the child of a child of the fork server."""

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, output: int, fds: Sequence[int]
    ) -> None:
        """Run ``python -m`` with the arguments in a session of its own; it prints to the descriptor ``output``."""
        self.args = list(arguments)
        self.returncode: int | None = None
        self._lines: list[bytes] = []
        self._told, write = os.pipe()
        request = json.dumps([self.args, dict(env), str(cwd), list(fds)]).encode()
        assert len(request) < LONGEST and len(fds) + 2 <= MOST_FDS
        socket.send_fds(_link(), [request], [write, output, *fds])
        os.close(write)
        self.pid = int(self._line(STARTED))

    def _line(self, timeout: float) -> bytes:
        """Return the next thing that is told of the process; TimeoutExpired when there is none in time."""
        deadline = time.monotonic() + timeout
        while not self._lines:
            if not select.select([self._told], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            said = os.read(self._told, 100)
            self._lines += said.splitlines() or [b"%d" % -signal.SIGKILL]  # each is written at once
        return self._lines.pop(0)

    def wait(self, timeout: float) -> int:
        """Return the exit code as subprocess has it; TimeoutExpired when it does not end in time."""
        if self.returncode is None:
            self.returncode = int(self._line(timeout))
            os.close(self._told)
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None


@cache
def _link() -> socket.socket:
    """Start the fork server and return where it takes requests. It ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            cwd=ROOT,
            env=_environment(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        server.wait(2 * ENDED)

    atexit.register(end)
    return ours


def _reap() -> bool:
    """Whether children are left, after taking those that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _next(link: socket.socket) -> tuple[list[Any], list[int]] | None:
    """Fork for each request: return it in the new process, and None in this one, at the end."""
    while True:
        request, fds, _, _ = socket.recv_fds(link, LONGEST, MOST_FDS)
        _reap()
        if not request:
            return None
        if not os.fork():
            link.close()
            return json.loads(request), fds
        for fd in fds:
            os.close(fd)


def _watch(told: int, others: Sequence[int]) -> None:
    """Fork once more and return in that process; in this one tell how it ends, and end.

    It is killed with its group when nobody is left who could be told: tests that were killed leave nobody.
    """
    pid = os.fork()
    if not pid:
        return
    for fd in (0, 1, 2, *others):
        os.close(fd)
    ends, events = os.pidfd_open(pid), select.poll()
    events.register(ends, select.POLLIN)
    events.register(told, 0)  # of which no more than its error is asked: there is no reader
    if ends not in dict(events.poll()):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody asks any more
        os.write(told, b"%d\n" % code)
    os._exit(0)


def _become(env: Mapping[str, str], cwd: str, numbers: Sequence[int], told: int, received: Sequence[int]) -> None:
    """Take the session, descriptors, environment and folder that are asked for, and tell who this is."""
    os.setsid()
    above = max((100, *numbers)) + 1
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in (told, *received)]
    os.closerange(3, above)
    for fd, number in zip(high[1:], (1, *numbers), strict=True):
        os.dup2(fd, number)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    os.write(high[0], b"%d\n" % os.getpid())
    for fd in high:
        os.close(fd)


def main(link: socket.socket) -> list[str]:
    """Return the arguments of the process that this one has become; nothing when it is still itself, at the end."""
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    found = _next(link)
    if found is None:
        deadline = time.monotonic() + ENDED
        while _reap() and time.monotonic() < deadline:
            time.sleep(0.02)
        return []
    (arguments, env, cwd, numbers), (told, *received) = found
    _watch(told, received)
    _become(env, cwd, numbers, told, received)
    sys.path[0] = cwd
    return arguments


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    module, *sys.argv[1:] = main(socket.socket(fileno=int(sys.argv[1]))) or [""]
    if module:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
