"""Screen: where the launcher and its children print: prefixed lines, and a progress bar on a terminal.

Without a terminal there is a line about the progress every so often, less often as a run grows long.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ps.log_line import json_line

BAR = 24
"""Characters of the progress bar."""
FIRST, SELDOM = 10.0, 60.0
"""Seconds between lines about the progress where there is no terminal: at first, and in the end."""

_COLOURS = {"scheduler": 35, "server": 33, "worker": 36, "psctl": 1}


class Screen:
    """Writes whole lines, from any thread. Nobody waits here to say something of the launcher's own.

    The streams are those of ``ps.sink`` in a process that nothing it prints may end.
    """

    def __init__(
        self,
        out: IO[str] | None = None,
        err: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        as_json: bool = False,
    ) -> None:
        """``as_json``: each line is an object of JSON, and there is no bar."""
        self._as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._lock = threading.Lock()
        self._said: deque[str] = deque()
        self._live: Live | None = None
        self._lines: list[str] = []
        self._clock = clock
        self._told, self._interval = clock(), FIRST
        self._unfinished: dict[str, str] = {}
        self.has_progress = not as_json and self._err.isatty() and os.environ.get("TERM") != "dumb"

    def line(self, name: str, is_error: bool, text: str) -> None:
        """Print one line of a child."""
        with self._lock:
            if self._unfinished.pop(name, None):
                self._refresh()
            self._print(name, is_error, text)
        self._flush()

    def unfinished(self, name: str, is_error: bool, text: str) -> None:
        """Show a line that a child goes on changing, such as a progress bar."""
        if not self.has_progress:
            self.line(name, is_error, text)
            return
        with self._lock:
            self._unfinished[name] = text
            self._refresh()

    def say(self, text: str) -> None:
        """Print a line of the launcher's own."""
        self._said.extend(text.splitlines())
        self._flush()

    def show(self, table: RenderableType) -> None:
        """Print a table: as wide as the window, 80 columns where there is none."""
        width = None if self._out.isatty() else 80
        console = Console(file=self._out, width=width, highlight=False)
        with console.capture() as capture:
            console.print(table)
        with self._lock:
            if self._as_json:
                self._print("psctl", False, capture.get().rstrip("\n"))
            else:
                _write(self._out, capture.get())

    def progress(self, where: str, more: Sequence[str] = (), fraction: float | None = None) -> None:
        """Show how far something is, with a bar if that is a known part of it; ``more`` are further lines."""
        if not self.has_progress:
            self._tell(where, more, fraction)
            return
        with self._lock:
            bar = "" if fraction is None else f"{_bar(fraction)} "
            self._lines = [f"{bar}{where}", *more]
            self._refresh()

    def _tell(self, where: str, more: Sequence[str], fraction: float | None) -> None:
        now = self._clock()
        if now - self._told >= self._interval:
            self._told, self._interval = now, min(1.5 * self._interval, SELDOM)
            percent = [] if fraction is None else [f"{fraction:.0%}"]
            self.say(" · ".join([*percent, where, *more]))

    def close(self) -> None:
        """Take the progress line away."""
        with self._lock:
            self.has_progress = False
            if self._live is not None:
                self._live.stop()
                self._live = None

    def _refresh(self) -> None:
        if not self.has_progress:
            return
        if self._live is None:
            console = Console(file=self._err, highlight=False)
            # refreshed under our lock alone: by a thread of its own it may be written between a line and its cursor
            self._live = Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        bars = [f"{name} | {text}" for name, text in sorted(self._unfinished.items())]
        first, *more = [Text(text, no_wrap=True, overflow="ellipsis") for text in (self._lines or [""])]
        below = [Text("  ").append_text(text) for text in more]
        for text in below:
            text.no_wrap, text.overflow = True, "ellipsis"
        bars_below = [Text(text, no_wrap=True, overflow="ellipsis") for text in bars]
        self._live.update(Group(Spinner("dots", first), *below, *bars_below), refresh=True)

    def _flush(self) -> None:
        """Print what the launcher has said, unless another thread is printing: that one does it then."""
        while self._said and self._lock.acquire(blocking=False):
            try:
                while self._said:
                    self._print("psctl", True, self._said.popleft())
            finally:
                self._lock.release()

    def _print(self, name: str, is_error: bool, text: str) -> None:
        stream = self._err if is_error else self._out
        if self._as_json:
            _write(stream, json_line(name, text, stream="stderr" if is_error else "stdout") + "\n")
            return
        prefix = f"{name} |"
        if stream.isatty() and not os.environ.get("NO_COLOR"):
            prefix = f"\x1b[{_COLOURS[name.split()[0]]}m{prefix}\x1b[0m"
        if self._live is not None and stream.isatty():
            self._live.console.print(Text.from_ansi(f"{prefix} {text}"), soft_wrap=True)
        else:
            _write(stream, f"{prefix} {text}\n")


def _bar(fraction: float) -> str:
    filled = round(fraction * BAR)
    return f"{'━' * filled}{'╌' * (BAR - filled)} {fraction:4.0%}"


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "backslashreplace").decode())
    stream.flush()
