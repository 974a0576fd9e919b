"""Output: reads what all children print, line by line, in one thread."""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable

from ps.launch.child import Child

LONGEST_LINE = 64 * 1024
_READ = 64 * 1024
SHOWN = 1.0, 10.0
"""Seconds between two looks at a line that a child goes on changing: on a terminal, and in a file."""

log = logging.getLogger("ps.launch")

Write = Callable[[str, bool, str], None]
"""Called with the process's name, whether it is standard error, and the line without its end."""


class Output:
    """Drains the pipes of children until they close, keeping each child's last lines.

    Of a line that is drawn again and again with carriage returns, as a progress bar is, the last state counts; until it
    is complete it is given to ``show`` every ``interval`` seconds.
    """

    def __init__(self, write: Write, show: Write | None = None, interval: float = SHOWN[0]) -> None:
        self._write = write
        self._show = show
        self._interval = interval
        self._selector = selectors.DefaultSelector()
        self._partial: dict[int, bytes] = {}
        self._shown: dict[int, float] = {}
        self._failing = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def add(self, child: Child) -> None:
        """Read this child's output too."""
        for is_error, pipe in enumerate(child.pipes):
            os.set_blocking(pipe.fileno(), False)
            self._partial[pipe.fileno()] = b""
            self._selector.register(pipe, selectors.EVENT_READ, (child, bool(is_error), pipe))

    def close(self, timeout: float) -> None:
        """Wait until every pipe is at its end, or ``timeout`` seconds, and close them."""
        deadline = time.monotonic() + timeout
        while self._selector.get_map() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._closing.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            self._end(key)
        self._selector.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(0.1):
                self._read(key)

    def _read(self, key: selectors.SelectorKey) -> None:
        try:
            data = os.read(key.fd, _READ)
        except BlockingIOError:
            return
        if not data:
            self._end(key)
            return
        *lines, rest = (self._partial[key.fd] + data).split(b"\n")
        if b"\r" in rest:
            rest = self._unfinished(key, rest)
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._partial[key.fd] = rest
        for line in lines:
            self._line(key, line)

    def _unfinished(self, key: selectors.SelectorKey, rest: bytes) -> bytes:
        """Show what a line is drawn as so far, now and then, and return as much of it as may still matter."""
        drawn = _drawn(rest)
        now = time.monotonic()
        if drawn and self._show is not None and now >= self._shown.get(key.fd, 0.0) + self._interval:
            self._shown[key.fd] = now
            child, is_error, _ = key.data
            self._tell(self._show, child.name, is_error, drawn.decode(errors="replace"))
        return b"\r" + drawn + (b"\r" if rest.endswith(b"\r") else b"")

    def _end(self, key: selectors.SelectorKey) -> None:
        rest = self._partial.pop(key.fd)
        self._shown.pop(key.fd, None)
        if rest:
            self._line(key, rest)
        self._selector.unregister(key.fileobj)
        _, _, pipe = key.data
        pipe.close()

    def _line(self, key: selectors.SelectorKey, line: bytes) -> None:
        child, is_error, _ = key.data
        text = _drawn(line).decode(errors="replace")
        child.tail.append(text)
        self._tell(self._write, child.name, is_error, text)

    def _tell(self, write: Write, name: str, is_error: bool, text: str) -> None:
        """Pass a line on. Whatever becomes of it: a child blocks when nobody reads what it prints."""
        try:
            write(name, is_error, text)
        except Exception as error:
            if not self._failing:
                log.error("lines of %s and others are lost: %r", name, error)
            self._failing = True


def _drawn(line: bytes) -> bytes:
    """Return what a line shows after its last carriage return that anything follows."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]
