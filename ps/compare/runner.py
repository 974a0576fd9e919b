"""Runner: one run as a child process: bounded in time, ended with this process, its output kept in its folder."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ps.compare.attack import Attack
from ps.compare.watchdog import Watchdog
from ps.dataclass import dataclass
from ps.errors import PSError
from ps.launch.child import Child
from ps.launch.output import Output
from ps.launch.policy import describe, exit_status
from ps.launch.rundir import scheduler_of
from ps.sink import open_sink

OUTPUT = "output.txt"
HURRY = 2.0
"""Seconds that a run has to kill its processes when somebody cannot wait."""

_TICK = 0.02

Fetch = Callable[[str, float], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. ``ended`` is finished, failed, timed out, interrupted or not run; ``why`` says it in words."""

    ended: str
    status: int | None = None
    why: str = ""
    wall_s: float = 0.0
    tail: tuple[str, ...] = ()
    killed: tuple[int, ...] = ()
    killed_at: float = 0.0
    killed_clock: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ends a run before it does: seconds, or somebody who wants to stop, perhaps without waiting for its grace."""

    timeout: float
    stop: Callable[[], bool]
    hurry: Callable[[], bool] = lambda: False


class Run:
    """A run that was begun."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, watchdog: Watchdog) -> None:
        """Start the command. Raises PSError when that cannot be."""
        self._watchdog = watchdog
        self._folder = folder
        try:
            self._log = open_sink(folder / OUTPUT)
        except OSError as error:
            raise PSError(f"cannot write to {folder}: {error.strerror}") from None
        self._began = time.monotonic()
        try:
            self._child = Child("run", 0, command, env)
        except OSError as error:
            self._log.close()
            raise PSError(f"cannot start {command[0]}: {error.strerror}") from None
        watchdog.begin(self._child.pid)
        self._output = Output(self._line)
        self._output.add(self._child)

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._child.pid

    def pids(self, fetch: Fetch) -> dict[int, int]:
        """Return the process of each live worker, as the run's scheduler has it; none while there is no scheduler."""
        address = scheduler_of(self._folder)
        if not address:
            return {}
        try:
            workers = fetch(address, 1.0).get("workers", ())
        except PSError:
            return {}
        return {worker["rank"]: worker["pid"] for worker in workers if worker["state"] == "live"}

    def finish(self, bounds: Bounds, attack: Attack | None, show: Callable[[float], None]) -> RunOutcome:
        """Wait until the run has ended, or end it; ``show`` is called with the seconds so far."""
        ended = "finished"
        deadline = self._began + bounds.timeout
        try:
            while self._child.poll() is None:
                if bounds.stop():
                    ended = "interrupted"
                    break
                if time.monotonic() > deadline:
                    ended = "timed out"
                    break
                if attack is not None:
                    attack.tick()
                show(time.monotonic() - self._began)
                time.sleep(_TICK)
        finally:
            wall = time.monotonic() - self._began
            self._end(bounds.hurry)
        code = self._child.exit.code if self._child.exit else -signal.SIGKILL
        if ended == "finished" and code:
            ended = "failed"
        why = {"failed": describe(code), "timed out": f"still running after {bounds.timeout:g} s, and ended"}
        killed = (attack.killed, attack.moment, attack.at_clock) if attack is not None else ((), 0.0, 0)
        tail = tuple(self._child.tail)
        return RunOutcome(ended, exit_status(code), why.get(ended, ""), round(wall, 2), tail, *killed)

    def _end(self, hurry: Callable[[], bool]) -> None:
        self._child.ask()
        deadline = time.monotonic() + self._watchdog.patience
        while self._child.poll() is None and time.monotonic() < deadline:
            if hurry():
                self._child.ask()  # as a second Ctrl-C: the run kills its own processes at once
                self._child.wait(HURRY)
                break
            time.sleep(_TICK)
        self._child.kill()
        self._child.wait(1.0)
        self._watchdog.end(self._child.pid)
        self._output.close(0.5)
        self._log.close()

    def _line(self, name: str, is_error: bool, text: str) -> None:
        self._log.write(text + "\n")
