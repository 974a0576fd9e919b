"""Screen: where the launcher and its children print: prefixed lines, and a progress line on a terminal."""

from __future__ import annotations

import os
import sys
import threading
from typing import IO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

_COLOURS = {"scheduler": 35, "server": 33, "worker": 36, "psctl": 1}


class Screen:
    """Writes whole lines, from any thread; a reader that went away does not stop the run."""

    def __init__(self, out: IO[str] | None = None, err: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._lock = threading.Lock()
        self._live: Live | None = None
        self.has_progress = self._err.isatty() and os.environ.get("TERM") != "dumb"

    def line(self, name: str, is_error: bool, text: str) -> None:
        """Print one line of a child."""
        stream = self._err if is_error else self._out
        prefix = f"{name} |"
        if stream.isatty() and not os.environ.get("NO_COLOR"):
            prefix = f"\x1b[{_COLOURS[name.split()[0]]}m{prefix}\x1b[0m"
        with self._lock:
            if self._live is not None and stream.isatty():
                self._live.console.print(Text.from_ansi(f"{prefix} {text}"), soft_wrap=True)
            else:
                _write(stream, f"{prefix} {text}\n")

    def say(self, text: str) -> None:
        """Print a line of the launcher's own."""
        for line in text.splitlines():
            self.line("psctl", True, line)

    def show(self, table: RenderableType) -> None:
        """Print a table, as wide as it needs to be when nobody's window limits it."""
        width = None if self._out.isatty() else 160
        console = Console(file=self._out, width=width, highlight=False)
        with console.capture() as capture:
            console.print(table)
        with self._lock:
            _write(self._out, capture.get())

    def progress(self, text: str) -> None:
        """Show ``text`` in the progress line, if there is one."""
        if not self.has_progress:
            return
        with self._lock:
            if self._live is None:
                console = Console(file=self._err, highlight=False)
                self._live = Live(console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
                self._live.start()
            self._live.update(Spinner("dots", Text(text, no_wrap=True, overflow="ellipsis")))

    def close(self) -> None:
        """Take the progress line away."""
        with self._lock:
            self.has_progress = False
            if self._live is not None:
                self._live.stop()
                self._live = None


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "backslashreplace").decode())
    except BrokenPipeError:
        # Whoever read this is gone; the processes still need their pipes drained.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)
