"""ProcessActor: what Ray runs on a node: it starts one process of ours and watches it. Training never runs in here.

It loads neither Ray nor NumPy itself. If it dies, or its raylet does and has it end, its process is told so by a pipe
and ends too (``ps.launch.lifeline``): an actor leaves nothing behind, however it went.
"""

from __future__ import annotations

import importlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import ps
from ps import blas, interpreter
from ps.config.load import without_ours
from ps.errors import ConfigError, ConnectTimeout, PSError
from ps.launch.child import Child
from ps.launch.import_path import import_path
from ps.launch.lifeline import GRACE, VARIABLE
from ps.launch.output import Output
from ps.launch.readiness import READY, await_address
from ps.launch.scope import runtime_directory
from ps.ray.start import ProcessNews, ProcessStart, StartedAt, TextLine

MOST_LINES = 2000
"""Lines that are kept for who asks; a process that prints more waits until they were fetched."""
MOST_BYTES = 1 << 20
"""Characters of lines in one answer, about."""
NAP = 0.05
READY_WITHIN = 60.0
"""Seconds in which a scheduler has to listen."""
LAST_LINES = 5.0
"""Seconds in which what an ended process has printed is read, at most: something it has left may hold its pipes."""
ORPHANED = 3.0
"""Seconds between SIGTERM and SIGKILL for a process whose actor is gone: Ray has given its place away."""


class ProcessActor:
    """One process, from its start to its end. Every method may be called while another one waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: deque[TextLine] = deque()
        self._first = 0
        """The number of the first line that is kept."""
        self._address: str | None = None
        self._code: int | None = None
        self._place: StartedAt | None = None
        self._failure: str = ""
        self._end_by: float | None = None
        self._begun = self._asked = self._told_address = False

    def begin(self, start: ProcessStart, ip: str = "") -> StartedAt:
        """Start the process; return where. Raises PSError where it cannot be started, ConfigError for other versions.

        ``ip``: by which other nodes reach this one; what Ray says, unless it is given.
        """
        ip = ip or str(importlib.import_module("ray.util").get_node_ip_address())
        if start.version != ps.__version__:
            raise ConfigError(
                f"{socket.gethostname()} has paramserver {ps.__version__}, and this job {start.version}: have one "
                f"version on all of Ray's nodes"
            )
        with self._changed:
            if not self._begun:  # or this is asked again, as the answer did not come
                # A thread of its own, that lives as long as the process: the system ends a process with who started it.
                threading.Thread(target=self._watch, args=(start, ip), name="process", daemon=True).start()
            self._begun = True
            self._changed.wait_for(lambda: self._place or self._failure)
        if self._place is None:
            raise PSError(self._failure)
        return self._place

    def news(self, seen: int, limit: float) -> ProcessNews:
        """Return what there is beyond the first ``seen`` lines, once there is anything, or after ``limit`` seconds."""

        def is_new() -> bool:
            is_new_address = self._address is not None and not self._told_address
            return self._first + len(self._lines) > seen or self._code is not None or is_new_address

        with self._changed:
            while self._first < seen and self._lines:  # those were received
                self._lines.popleft()
                self._first += 1
            self._changed.notify_all()
            self._changed.wait_for(is_new, limit)
            found, size = list[TextLine](), 0
            for line in self._lines:
                found.append(line)
                size += len(line[1])
                if size > MOST_BYTES:
                    break
            self._told_address = self._address is not None
            is_all = len(found) == len(self._lines)
            return ProcessNews(self._first, tuple(found), self._address, self._code if is_all else None)

    def end(self, grace: float) -> None:
        """Ask the process to end; after ``grace`` seconds it is killed."""
        with self._changed:
            self._end_by = time.monotonic() + grace

    def _watch(self, start: ProcessStart, ip: str) -> None:
        try:
            with runtime_directory(None) as folder:
                self._run(start, ip, folder)
        except OSError as error:
            self._fail(f"cannot start {start.name} on {socket.gethostname()}: {error.strerror or error}")
        except PSError as error:
            self._fail(f"cannot start {start.name} on {socket.gethostname()}: {error}")

    def _run(self, start: ProcessStart, ip: str, folder: Path) -> None:
        lifeline, keep = os.pipe()
        ready, write = os.pipe() if start.role == "scheduler" else (-1, -1)
        output = Output(self._write)
        try:
            env = {**environment(start, os.environ), "PS_RUNTIME_DIR": str(folder), GRACE: str(ORPHANED)}
            hands = {VARIABLE: lifeline, **({READY: write} if write >= 0 else {})}
            env |= {name: str(fd) for name, fd in hands.items()}
            command = [*interpreter.command("ps.cli"), start.words[0], "--host", ip, *_keys(start, folder)]
            command += start.words[1:]
            cwd = start.cwd if start.cwd and Path(start.cwd).is_dir() else None
            child = Child(start.role, start.rank, command, env, tuple(hands.values()), tied=True, cwd=cwd)
            os.close(lifeline)
            if write >= 0:
                os.close(write)
            lifeline = write = -1
            output.add(child)
            with self._changed:
                self._place = StartedAt(socket.gethostname(), ip, child.pid)
                self._changed.notify_all()
            if ready >= 0:
                self._await_address(ready, child)
            while not self._look_at(child):
                time.sleep(NAP)
        finally:
            for fd in (lifeline, write, ready, keep):
                if fd >= 0:
                    os.close(fd)
            output.close(LAST_LINES)
        with self._changed:
            assert child.exit is not None
            self._code = child.exit.code
            self._changed.notify_all()

    def _await_address(self, ready: int, child: Child) -> None:
        try:
            address = await_address(ready, READY_WITHIN, lambda: self._look_at(child))
        except ConnectTimeout:
            child.kill()
            return
        with self._changed:
            self._address = address
            self._changed.notify_all()

    def _look_at(self, child: Child) -> bool:
        """Have the process end if it is to; return whether it has."""
        if self._end_by is not None:
            if not self._asked:
                self._asked = True
                child.ask()
            elif time.monotonic() > self._end_by:
                child.kill()
        return child.poll() is not None

    def _write(self, name: str, is_error: bool, text: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._lines) < MOST_LINES)
            self._lines.append((is_error, text))
            self._changed.notify_all()

    def _fail(self, text: str) -> None:
        with self._changed:
            self._failure = text
            self._changed.notify_all()


def environment(start: ProcessStart, base: Mapping[str, str]) -> dict[str, str]:
    """Return a process's environment: the actor's without settings of ours, and without the one thread Ray gives it."""
    env = {name: value for name, value in without_ours(base).items() if name not in blas.VARIABLES}
    return {**env, **import_path(base), "PYTHONUNBUFFERED": "1", **start.env}


def _keys(start: ProcessStart, folder: Path) -> list[str]:
    """Put the process's keys where only it can read them; return the flags that say so."""
    if not start.keys:
        return []
    place = folder / "own-keys"
    place.mkdir(mode=0o700)
    for name, data in start.keys.items():
        fd = os.open(place / Path(name).name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    return ["--keys", str(place)]
