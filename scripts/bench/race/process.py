"""Process: a child that is told lines and answers lines, with a bound on every wait and an end that is certain."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ps.cli.ready import READY
from ps.launch import lifeline
from ps.launch.scope import signals_into


class Failed(Exception):
    """A child ended, reported an error or did not answer; says which, and its last words."""


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait until what is made meanwhile is known to whoever has to remove it."""
    came: list[int] = []
    try:
        with signals_into(came):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


class Process:
    """A child in a session of its own: it also ends, with its children, when this process does, however it dies."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        self._answers = b""
        read, answer = os.pipe()
        alive, self._lifeline = os.pipe()
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PS_")}
        try:
            with log.open("ab") as output:
                self._popen = subprocess.Popen(
                    list(command),
                    cwd=log.parent,
                    env={**kept, **env, READY: str(answer), lifeline.VARIABLE: str(alive)},
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[answer, alive],
                    start_new_session=True,
                )
        except BaseException:
            os.close(read)
            os.close(self._lifeline)
            raise
        finally:
            os.close(answer)
            os.close(alive)
        self._read = read

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self._popen.pid

    def tell(self, line: str) -> None:
        """Send a line; what comes of it is for ``hear``."""
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(line.encode() + b"\n")
            self._popen.stdin.flush()

    def last_words(self) -> str:
        """Return the last line it printed, or nothing."""
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
            return next((line for line in reversed(lines) if line), "")
        return ""

    def dismiss(self) -> None:
        """Say that there is nothing more to do: ranks leave in good order."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()

    def end(self, patience: float, grace: float) -> None:
        """End it: wait ``patience`` seconds, SIGTERM, wait ``grace`` seconds, SIGKILL for all of its group."""
        if not self._ends_within(patience):
            self._signal(signal.SIGTERM)
            self._ends_within(grace)
        self._signal(signal.SIGKILL)
        self._popen.wait(10)
        for fd in (self._read, self._lifeline):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.dismiss()

    def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self._popen.returncode is not None

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)


def hear(processes: Sequence[Process], timeout: float) -> list[str]:
    """Return the next line of each of the processes. Raises Failed as soon as one ends, or when the time does."""
    deadline = time.monotonic() + timeout
    lines: dict[str, str] = {}
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process._read, selectors.EVENT_READ, process)
        while len(lines) < len(processes):
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                missing = ", ".join(process.name for process in processes if process.name not in lines)
                raise Failed(f"no answer from {missing} after {timeout:g} s")
            for key, _ in ready:
                process = key.data
                part = os.read(process._read, 1 << 16)
                if not part:
                    raise Failed(f"{process.name} ended: {process.last_words() or 'without a word'}")
                process._answers += part
                if b"\n" in process._answers:
                    line, _, process._answers = process._answers.partition(b"\n")
                    lines[process.name] = line.decode()
                    selector.unregister(process._read)
    return [lines[process.name] for process in processes]
