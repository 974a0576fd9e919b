"""The timeline of a run: a part for each process while it runs, one file in the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from ps.errors import UsageError
from ps.trace import otlp
from ps.trace.merge import merge
from ps.whole import check_writable

VIEWERS = "https://ui.perfetto.dev or chrome://tracing"


class Timeline:
    """The file of ``--trace`` and its parts, which lie beside it."""

    def __init__(self, path: str) -> None:
        """Raises UsageError when there can be no such file. An earlier run's parts are removed, its file is not."""
        self.path = check_writable(path, "the trace")
        self._shown = path
        self._parts: list[Path] = []
        try:
            for part in self.path.parent.iterdir():
                if re.fullmatch(rf"{re.escape(self.path.name)}\.(worker|server)-\d+\.part", part.name):
                    part.unlink()
        except OSError as error:
            raise UsageError(f"cannot write the trace to {path}: {error.strerror}") from None

    def part(self, role: str, rank: int) -> str:
        """Return the path of one process's part."""
        path = self.path.with_name(f"{self.path.name}.{role}-{rank}.part")
        if path not in self._parts:  # a process that is started again begins its part anew
            self._parts.append(path)
        return str(path)

    def finish(self, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
        """Make one file of what the processes left. Never raises: the parts stay when that cannot be done."""
        parts = [path for path in self._parts if path.exists()]
        try:
            begun = [path for path in parts if path.stat().st_size]  # not every process comes as far as to train
            merged = merge(begun, self.path, say, stop)
        except OSError as error:
            self._keep(parts, say, f"cannot write the trace to {self._shown}: {error.strerror}")
            return
        if merged.stopped:
            self._keep(parts, say, "the trace was not merged")
            return
        if begun and not merged.processes:
            self._keep(parts, say, "the trace was not merged: no part of it can be read")
            return
        for part in parts:
            part.unlink(missing_ok=True)
        if not merged.processes:
            say(f"no process came as far as to be traced: there is no {self._shown} of this run")
            return
        count = f"{merged.processes} process{'' if merged.processes == 1 else 'es'}"
        say(
            f"the timeline of {count} is in {self._shown}: open it in {VIEWERS}, or try: psctl trace show {self._shown}"
        )
        if otlp.is_wanted():
            otlp.export(self.path, self.path.stem, say)

    def _keep(self, parts: Iterable[Path], say: Callable[[str], None], why: str) -> None:
        say(f"{why}; its parts are {self._shown}.*.part; try: psctl trace merge OUT {self._shown}.*.part")
