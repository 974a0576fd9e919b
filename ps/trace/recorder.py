"""Recorder: the trace that is written. Events are kept as tuples and written, some hundred at a time, by whoever
records the one that is too many; there is no thread."""

from __future__ import annotations

import logging
import math
import os
import platform
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from ps.errors import UsageError
from ps.regular_file import refuse_pipe
from ps.trace import events
from ps.trace.part import Part
from ps.trace.trace import LANES, OFF, Trace

log = logging.getLogger("ps.trace")

LIMIT = 500_000
"""Events of one process, at most: some 70 MB."""
BATCH = 512
"""Events after which they are written."""
PATIENCE = 1_000_000_000
"""Nanoseconds after which they are written."""
SHOWN = 50_000
"""Nanoseconds that writing takes to be shown itself, in a lane ``trace``: whoever records has lost them."""

_TOKEN = secrets.token_hex(8)

Event = tuple[Any, ...]
"""What ``events`` is to make a line of: the function's name, the thread, the lane, and its further arguments."""


def start(path: str | None, role: str, rank: int | None = None, *, limit: int = LIMIT) -> Trace:
    """Return the trace of this process, a ``worker`` or ``server``, into a file; OFF without one.

    A second trace into the same file goes on with it. When somebody else is writing it, there is a warning and OFF.
    Raises UsageError when the file cannot be written.
    """
    if path is None:
        return OFF
    try:
        refuse_pipe(path)
        part = Part(Path(path).absolute(), _TOKEN)
    except BlockingIOError:
        log.warning("%s is already being written by another process or connection: this one is not traced", path)
        return OFF
    except OSError as error:
        raise UsageError(f"cannot write the trace to {path}: {error.strerror}") from None
    return Recorder(part, role, -1 if rank is None else rank, limit)


class Recorder:
    """A process's timeline, written to a part."""

    def __init__(self, part: Part, role: str, rank: int, limit: int = LIMIT) -> None:
        self.on = True
        self.now: Callable[[], int] = time.monotonic_ns
        self._part = part
        self._role = role
        self._peer = "server" if role == "worker" else "worker"
        self._pid = os.getpid()
        self._left = limit
        self._limit = limit
        self._events: deque[Event] = deque()
        self._rows: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._due = time.monotonic_ns() + PATIENCE
        offset = time.time_ns() - time.monotonic_ns()
        self._heads = [events.header(self._pid, role, _host(), offset, _TOKEN), *events.names(self._pid, role, rank)]
        self.flush()

    def add(
        self,
        lane: str,
        since: int,
        until: int = 0,
        *,
        name: str = "",
        clock: int = -1,
        chunk: int = -1,
        peer: int = -1,
        size: int = -1,
    ) -> None:
        now = self.now()
        ident = threading.get_ident()
        self._note(now, ("span", ident, lane, name or lane, since, until or now, (clock, chunk, peer, size)))

    def span(
        self, lane: str, *, name: str = "", clock: int = -1, chunk: int = -1, peer: int = -1, size: int = -1
    ) -> _Span:
        return _Span(self, lane, {"name": name, "clock": clock, "chunk": chunk, "peer": peer, "size": size})

    def link(self, station: str, lane: str, at: int, worker: int, clock: int, chunk: int) -> None:
        self._note(self.now(), ("flow", threading.get_ident(), lane, station, at, (worker, clock, chunk)))

    def instant(self, lane: str, name: str, *, clock: int = -1, chunk: int = -1, peer: int = -1) -> None:
        now = self.now()
        self._note(now, ("instant", threading.get_ident(), lane, name, now, (clock, chunk, peer, -1)))

    def count(self, name: str, value: float) -> None:
        now = self.now()
        if math.isfinite(value):
            self._note(now, ("count", 0, "", name, now, value))

    def seat(self, rank: int) -> None:
        self._heads += events.names(self._pid, self._role, rank)

    def tick(self) -> None:
        if self.now() >= self._due:
            self.flush()

    def _note(self, now: int, event: Event) -> None:
        if not self.on:
            return
        self._events.append(event)
        if len(self._events) >= BATCH or now >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write what there is. A full disk ends the trace, and so does the limit; a forked child has none."""
        if not self._lock.acquire(blocking=False):  # another thread is at it
            return
        try:
            if self.on:
                self._write()
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            if self.on:
                self._write()
            if self.on:
                self._end()

    def _write(self) -> None:
        if os.getpid() != self._pid:
            self.on = False
            return
        begun = self.now()
        fitting = [self._events.popleft() for _ in range(min(len(self._events), self._left))]
        self._left -= len(fitting)
        is_full = bool(self._events)
        heads, self._heads = self._heads, []
        if is_full:
            words = f"the trace ends after {self._limit} events"
            heads.append(events.metadata(self._pid, 0, "process_labels", {"labels": words}))
            log.warning("%s: %s", self._part.path, words)
        lines = [self._line(event, heads) for event in fitting]
        try:
            self._part.write(heads + lines)
        except OSError as error:
            self._give_up(error)
            return
        if is_full:
            self._end()
        now = self.now()
        self._due = now + PATIENCE
        if now - begun > SHOWN:
            self._events.append(("span", threading.get_ident(), "trace", "write", begun, now, (-1, -1, -1, -1)))

    def _end(self) -> None:
        self.on = False
        try:
            self._part.close()
        except OSError as error:
            log.warning("%s is not complete: %s", self._part.path, error.strerror)

    def _give_up(self, error: OSError) -> None:
        self.on = False
        log.warning("%s is no longer written: %s", self._part.path, error.strerror)
        self._part.abandon()

    def _line(self, event: Event, heads: list[str]) -> str:
        kind, ident, lane, *rest = event
        pid = self._pid
        if kind == "count":
            title, at, value = rest
            return events.count(pid, title, at, value)
        tid = self._rows.get((lane, ident)) or self._row(lane, ident, heads)
        if kind == "span":
            title, since, until, about = rest
            return events.span(pid, tid, title, since, until, events.details(self._peer, about))
        if kind == "flow":
            station, at, way = rest
            return events.flow(pid, tid, station, at, events.way(*way))
        title, at, about = rest
        return events.instant(pid, tid, title, at, events.details(self._peer, about))

    def _row(self, lane: str, ident: int, heads: list[str]) -> int:
        """Give a lane a row for this thread, the second thread's one numbered."""
        tid = self._rows[lane, ident] = len(self._rows) + 1
        number = sum(known == lane for known, _ in self._rows)
        lanes = LANES.get(self._role, ())
        place = 1000 * (lanes.index(lane) if lane in lanes else len(lanes)) + number
        heads += events.row(self._pid, tid, lane if number == 1 else f"{lane} {number}", place)
        return tid


class _Span:
    def __init__(self, recorder: Recorder, lane: str, about: dict[str, Any]) -> None:
        self._recorder = recorder
        self._lane = lane
        self._about = about
        self._since = 0

    def __enter__(self) -> None:
        self._since = self._recorder.now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.add(self._lane, self._since, **self._about)


def _host() -> str:
    """Return what only processes with the same monotonic clock have in common: the machine and its last start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()
