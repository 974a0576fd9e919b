"""WorkerProcess: one process of the simulation as its starter sees it: orders go in, results come out."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ps import blas, interpreter
from ps.errors import PeerLost
from ps.simulate.arrays import SharedArrays
from ps.simulate.link import Link
from ps.simulate.plan import TrainingPlan
from ps.simulate.result_memory import ResultMemory, aligned
from ps.simulate.task import TrainingResult, TrainingTask, unpack
from ps.xp import HostArray

MOST_PLACES = 4096
"""Results of one process, at most, that lie in shared memory; more come through its socket."""


class WorkerProcess:
    """A child that trains; a thread reads what it says, so that neither ever waits for the other to read."""

    def __init__(
        self,
        number: int,
        plan: TrainingPlan,
        data: SharedArrays,
        arrived: Callable[[Sequence[TrainingResult]], None],
        gone: Callable[[str], None],
        ahead: int,
    ) -> None:
        """Start it. ``arrived`` and ``gone`` (why) are called from the thread, ``gone`` at most once and last.

        Results of ``ahead`` tasks at once have room in memory that is shared with it.
        """
        self.number = number
        self._arrived, self._gone = arrived, gone
        ours, theirs = socket.socketpair()
        self._link = Link(ours)
        self._memory = _memory_for(plan, ahead)
        with theirs, contextlib.closing(self._memory):
            files = theirs.fileno(), data.fd, self._memory.fd
            self._process = subprocess.Popen(
                [*interpreter.command("ps.simulate.process"), *map(str, files)],
                pass_fds=files,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **dict.fromkeys(blas.VARIABLES, "1")},
            )
        self._thread = threading.Thread(target=self._listen, name=f"simulate-{number}", daemon=True)
        self._thread.start()
        self.send("plan", plan.to_dict(), data.to_dict(), self._memory.nbytes)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, kind: str, *values: Any, frames: Sequence[HostArray] = ()) -> None:
        """Send an order; PeerLost when the process is gone."""
        try:
            self._link.send(kind, *values, frames=frames)
        except OSError:
            raise PeerLost(self._fate()) from None

    def train(self, tasks: Sequence[TrainingTask]) -> None:
        """Order tasks; what comes of them is told to ``arrived``."""
        self.send("train", tasks, [self._memory.take() for _ in tasks])

    def close(self, timeout: float = 5.0) -> None:
        """End the process, whatever it is at: nothing of it is needed any more."""
        self._gone = lambda why: None
        self._process.kill()
        self._process.wait(timeout)
        self._thread.join(timeout)
        self._link.close()

    def _listen(self) -> None:
        why = ""
        try:
            while not why:
                kind, values, frames = self._link.receive()
                if kind == "results":
                    self._arrived(unpack(values, frames, self._memory))
                else:
                    why = f"simulation process {self.number}: {values[0]}"
        except (EOFError, OSError):
            why = self._fate()
        self._gone(why)

    def _fate(self) -> str:
        try:
            code: int | str = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            code = "unknown"
        return f"simulation process {self.number} (pid {self.pid}) ended with exit status {code}"


def _memory_for(plan: TrainingPlan, ahead: int) -> ResultMemory:
    """Return room for so many results; for none where there is no memory that can be shared."""
    nbytes = sum(aligned(chunk.nbytes) for chunk in plan.layout.cut(plan.job))
    try:
        return ResultMemory(min(ahead, MOST_PLACES), nbytes)
    except (OSError, ValueError):
        return ResultMemory(1, 0)
