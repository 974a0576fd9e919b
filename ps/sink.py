"""Sink: where a long-running process prints. What cannot be written in time is lost; the process goes on.

A full disk, a terminal that has gone, a reader that has ended or does not read: none may end or block a training.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

PATIENCE = 1.0
"""Seconds for which a reader may take nothing before what it does not read is lost."""

_SLICE = min(getattr(select, "PIPE_BUF", 512), 4096)
"""Bytes that a pipe takes without blocking once it is ready for any."""


class Sink(io.RawIOBase):
    """Writes to a descriptor what can be written there, and never raises OSError.

    A slow reader is waited for as long as it goes on reading. Once it has taken nothing for ``patience`` seconds,
    nobody waits for it until it reads again.
    """

    def __init__(self, fd: int, name: str, *, owns: bool = False, patience: float = PATIENCE) -> None:
        """``owns``: the descriptor is closed with the sink."""
        self.name = name
        self.lost = 0
        """Bytes that were not written."""
        self.why = ""
        """Why the last of them were not."""
        self._fd = fd
        self._owns = owns
        self._patience = patience
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._stuck = self._torn = False

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Write what can be written of a bytes-like object; return the length of all of it."""
        given = memoryview(data).cast("B")
        rest = memoryview(b"\n" + bytes(given)) if self._torn else given  # after a gap a new line begins
        last = None
        try:
            deadline = self._deadline()
            while rest and self._is_ready(deadline):
                with contextlib.suppress(BlockingIOError):
                    written = os.write(self._fd, rest[:_SLICE])
                    last, rest = rest[written - 1], rest[written:]
                    self._stuck = False
                    deadline = self._deadline()
        except OSError as error:
            self.why = error.strerror or str(error)
        self.lost += min(len(rest), len(given))
        if last is not None:
            self._torn = bool(rest) and last != ord("\n")
        return len(given)

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._owns and not self.closed:
            os.close(self._fd)
        super().close()

    def _deadline(self) -> float:
        return time.monotonic() + (0.0 if self._stuck else self._patience)

    def _is_ready(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if self._poll.poll(max(0.0, left) * 1000) and (left > 0 or self._stuck):
            return True
        self._stuck = True
        self.why = f"nobody has read it for {self._patience:g} s"
        return False


def open_sink(path: Path) -> TextIO:
    """Return a new text file, written line by line as far as it can be. Raises OSError when there can be none."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    return _text(Sink(fd, str(path), owns=True), encoding="utf-8", errors="replace", line_buffering=True)


@contextlib.contextmanager
def kept_going(*names: str) -> Iterator[None]:
    """Let no write to ``stdout`` or ``stderr``, as named, end or block this process; say in the end what was lost.

    A descriptor that is closed becomes the null device, so that no file of ours is taken for standard output. Streams
    that somebody has put in the place of the process's own are left alone.
    """
    sinks = []
    with contextlib.ExitStack() as undo:
        for name in names:
            sink = _guard(name, undo.callback)
            if sink is not None:
                sinks.append(sink)
        try:
            yield
        finally:
            for name in names:
                with contextlib.suppress(OSError, ValueError):
                    getattr(sys, name).flush()
            for sink in sinks:
                if sink.lost:
                    print(f"psctl: {sink.lost:,} bytes of {sink.name} were lost: {sink.why}", file=sys.stderr)


def open_closed_descriptors() -> None:
    """Open the null device in the place of standard input, output and error, where one is closed."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def _guard(name: str, undo: Callable[..., object]) -> Sink | None:
    stream, fd = getattr(sys, name), {"stdout": 1, "stderr": 2}[name]
    how: dict[str, Any] = {"line_buffering": True}
    if stream is not None:
        try:
            if stream.fileno() != fd:
                return None
        except (OSError, ValueError):  # an object in memory
            return None
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        how = {key: getattr(stream, key) for key in ("encoding", "errors", "line_buffering", "write_through")}
    sink = Sink(fd, f"<{name}>")
    setattr(sys, name, _text(sink, **how))
    undo(setattr, sys, name, stream)
    return sink


def _text(sink: Sink, **how: Any) -> TextIO:
    """Return a text stream; one that writes everything through has no buffer, as that of ``python -u``."""
    raw: Any = sink if how.get("write_through") else io.BufferedWriter(sink)
    return io.TextIOWrapper(raw, **how)
