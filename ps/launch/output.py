"""Output: reads what all children print, line by line, in one thread."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable

from ps.launch.child import Child

LONGEST_LINE = 64 * 1024
_READ = 64 * 1024

Write = Callable[[str, bool, str], None]
"""Called with the process's name, whether it is standard error, and the line without its end."""


class Output:
    """Drains the pipes of children until they close, keeping each child's last lines."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._selector = selectors.DefaultSelector()
        self._partial: dict[int, bytes] = {}
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
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        self._partial[key.fd] = rest
        for line in lines:
            self._line(key, line)

    def _end(self, key: selectors.SelectorKey) -> None:
        rest = self._partial.pop(key.fd)
        if rest:
            self._line(key, rest)
        self._selector.unregister(key.fileobj)
        _, _, pipe = key.data
        pipe.close()

    def _line(self, key: selectors.SelectorKey, line: bytes) -> None:
        child, is_error, _ = key.data
        text = line.decode(errors="replace").rstrip("\r")
        child.tail.append(text)
        self._write(child.name, is_error, text)
