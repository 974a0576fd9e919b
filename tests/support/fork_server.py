"""A process that has loaded what the roles of a job load, and forks itself for each ``psctl`` that tests ask it for.

A role starts in 20 ms so, instead of in half a second of one core. A ``psctl run`` that was forked has its roles forked
too, by ``Subprocess``. What could hide here is what goes wrong while modules load, and how a launcher is told of its
children and these of its death: so all of ``launch/`` and a command of each kind in the documents are real processes.
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
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOADED = (
    "ps.cli.app",
    "ps.cli.roles",
    "ps.cli.run",
    "ps.server.scheduler.service",
    "ps.server.shard.service",
    "ps.worker",
    "ps.models.mlp",
    "ps.simulate.process",
)
LONGEST = 1 << 17
"""Bytes of a request: a command line and an environment."""
SAFE = "-P"
"""Python's flag for not looking for modules in the working directory."""
MOST_FDS = 20
NAMED = "<"
"""Between the launcher's process id and the role in the name of a forked process. Linux takes 15 characters of it."""
PROGRAMS = ("ps.cli", "ps.simulate.process")
ROLES = ("scheduler", "server", "worker")
LAUNCHERS = ("run", "demo", "compare")
"""Commands that start others."""
STARTED = 90.0
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


def family(pid: int) -> dict[int, str]:
    """Return a process and those that it has started, forked ones too, with their roles; nothing when it has ended."""
    if not Path(f"/proc/{pid}").exists():
        return {}
    found = {pid: ""}
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            words = Path(f"/proc/{each}/cmdline").read_text().split("\0")
            found[int(each)] = next((role for role in ROLES if role in words), "")
    return found | forked_by(pid)


def forked_by(*launchers: int) -> dict[int, str]:
    """Return the forked processes, with their roles, that these have started, which may have ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            launcher, is_forked, role = path.read_text().strip().partition(NAMED)
            if is_forked and launcher in map(str, launchers):
                found[int(path.parent.name)] = next((full for full in ROLES if role and full.startswith(role)), "")
    return found


class Forked:
    """What ``subprocess.Popen`` is, of a process that was forked here: the child of a child of the fork server."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        outputs: tuple[int, int],
        fds: Sequence[int],
        loaded: Sequence[str] | socket.socket = (),
    ) -> None:
        """Run ``python`` with the arguments in a session of its own; it prints to two descriptors.

        ``loaded``: the libraries that the fork server is to have beside ours, or where it takes requests.
        """
        self.args = list(arguments)
        self.returncode: int | None = None
        self._lines: list[bytes] = []
        self._waits = threading.Lock()
        self._told, write = os.pipe()
        link = loaded if isinstance(loaded, socket.socket) else _link(*loaded)
        request = json.dumps([self.args, dict(env), str(cwd), list(fds), os.getpid()]).encode()
        assert len(request) < LONGEST and len(fds) + 4 <= MOST_FDS
        socket.send_fds(link, [request], [write, *outputs, link.fileno(), *fds])
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
        if not self._waits.acquire(timeout=timeout):  # of another thread, which has not been told yet either
            raise subprocess.TimeoutExpired(self.args, timeout)
        try:
            if self.returncode is None:
                self.returncode = int(self._line(timeout))
                os.close(self._told)
            return self.returncode
        finally:
            self._waits.release()

    def kill(self) -> None:
        """kill -9, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None


class _Piped(Forked):
    """One whose output its launcher reads."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], fds: Sequence[int], loaded: Any) -> None:
        pipes = [os.pipe(), os.pipe()]
        super().__init__(arguments, env, Path.cwd(), (pipes[0][1], pipes[1][1]), fds, loaded)
        for _, write in pipes:
            os.close(write)
        self.stdout, self.stderr = (os.fdopen(read, "rb") for read, _ in pipes)


class Subprocess:
    """What modules of ours have for the module ``subprocess`` where the processes that they start are forked."""

    DEVNULL, PIPE, TimeoutExpired = subprocess.DEVNULL, subprocess.PIPE, subprocess.TimeoutExpired

    def __init__(self, loaded: Sequence[str] | socket.socket = ()) -> None:
        self._loaded = loaded

    def Popen(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int],
        preexec_fn: Callable[[], None] | None = None,
        **others: Any,
    ) -> Any:
        """Start a process: a forked one, which no signal tells of its launcher's death, where it can be one."""
        if not can_be(env) or not _is_ours(command):
            return subprocess.Popen(command, env=env, pass_fds=pass_fds, preexec_fn=preexec_fn, **others)
        if others.get("stdout") == subprocess.PIPE:
            return _Piped(command[1:], env, pass_fds, self._loaded)
        return Forked(command[1:], env, Path.cwd(), (1, 2), pass_fds, self._loaded)


def _is_ours(command: Sequence[str]) -> bool:
    """Whether a command is that of a process of ours, as others of ours start it."""
    words = [word for word in command[:4] if word != SAFE]
    return words[:2] == [sys.executable, "-m"] and words[2] in PROGRAMS


@cache
def _link(*libraries: str) -> socket.socket:
    """Start the fork server and return where it takes requests. It ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), *libraries],
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


def _become(env: Mapping[str, str], cwd: str, numbers: Sequence[int], told: int, received: Sequence[int]) -> int:
    """Take the session, descriptors, environment and folder that are asked for, and tell who this is.

    Return the descriptor of where the fork server takes requests.
    """
    os.setsid()
    above = max((100, *numbers)) + 1
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in (told, *received)]
    os.closerange(3, above)
    requests, given = high[3], (*high[1:3], *high[4:])
    for fd, number in zip(given, (1, 2, *numbers), strict=True):
        os.dup2(fd, number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    os.write(high[0], b"%d\n" % os.getpid())
    for fd in (high[0], *given):
        os.close(fd)
    return requests


def _look_for_modules(flag: str, cwd: str) -> None:
    """Have ``sys.path`` begin as it does for ``python -m``, or with the flag for not looking there."""
    if flag == SAFE:
        del sys.path[0]
    else:
        sys.path[0] = cwd


def main(link: socket.socket, libraries: Sequence[str]) -> list[str]:
    """Return the module and arguments that this process has become; nothing when it is still itself, at the end."""
    for name in (*LOADED, *libraries):
        importlib.import_module(name)
    from ps.launch import child

    gc.freeze()
    found = _next(link)
    if found is None:
        deadline = time.monotonic() + ENDED
        while _reap() and time.monotonic() < deadline:
            time.sleep(0.02)
        return []
    (arguments, env, cwd, numbers, launcher), (told, *received) = found
    _watch(told, received)
    requests = _become(env, cwd, numbers, told, received)
    flag, *words = arguments if arguments[0] == SAFE else ("", *arguments)
    Path("/proc/self/comm").write_text(f"{launcher}{NAMED}{words[2] if words[2:] else ''}")
    _look_for_modules(flag, cwd)
    if words[2:3] and words[2] in LAUNCHERS:
        child.subprocess = Subprocess(socket.socket(fileno=requests))  # type: ignore[assignment]
    else:
        os.close(requests)
    return words[1:]


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    module, *sys.argv[1:] = main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]) or [""]
    if module:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
