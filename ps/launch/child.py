"""Child: one process of a local cluster, leading a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO

from ps.launch import parent
from ps.launch.policy import Exit, name_of

TAIL_LINES = 20


class Child:
    """A running or ended process, its role, and the last lines it printed."""

    def __init__(
        self,
        role: str,
        rank: int,
        command: Sequence[str],
        env: Mapping[str, str],
        fds: Sequence[int] = (),
        *,
        tied: bool = False,
        cwd: str | None = None,
    ) -> None:
        """Start the process in a session of its own, with ``fds`` open and nothing to read.

        ``tied``: it ends with the calling thread, where the system can see to that, until it has a lifeline. ``cwd``:
        where it works; None: here.
        """
        self.role = role
        self.rank = rank
        self.name = name_of(role, rank)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.exit: Exit | None = None
        self._process = subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(fds),
            start_new_session=True,
            # Safe with other threads about: one call into the C library, which waits for no lock.
            preexec_fn=partial(parent.tie, os.getpid()) if tied else None,
        )

    @property
    def pid(self) -> int:
        """The process id, which is its group's too."""
        return self._process.pid

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Its standard output and error."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        return self._process.stdout, self._process.stderr

    def poll(self) -> Exit | None:
        """Return how the process ended if it has. Whatever it left in its group is killed then."""
        if self.exit is None and (code := self._process.poll()) is not None:
            self.exit = Exit(self.role, self.rank, code)
            self._kill_group(signal.SIGKILL)
        return self.exit

    def ask(self) -> None:
        """Ask the process to end: SIGTERM. What it has started itself is left to it, until it is killed."""
        if self.poll() is None:
            for signum in (signal.SIGTERM, signal.SIGCONT):  # one that stands still would not notice
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill the process and its group, if it still runs."""
        if self.poll() is None:
            self._kill_group(signal.SIGKILL)

    def wait(self, timeout: float) -> None:
        """Wait for the process to end, at most ``timeout`` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.poll()

    def _kill_group(self, signum: int) -> None:
        # An empty group is no error; macOS says PermissionError when only zombies are left in it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)
