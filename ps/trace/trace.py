"""Trace: what traced code may call. OFF: the one that does nothing. The lanes of a timeline."""

from __future__ import annotations

import contextlib
from typing import Protocol

WORKER = ("compute", "send", "wait", "land")
"""A worker's lanes: the script, requests going out, waiting for anything, weights coming in."""
SERVER = ("receive", "apply", "send")
"""A server's lanes."""
LANES = {"worker": WORKER, "server": SERVER}

BEGIN, PASS, END = "s", "t", "f"
"""The stations of a chunk's way: the worker sends it, servers take it in and apply it, its answer lands."""


class Trace(Protocol):
    """A process's timeline. Never raises: what cannot be written ends the trace, not the training.

    Moments are nanoseconds, from ``now``. Every span lies in a lane, which is also its name unless it has another.
    ``clock``, ``chunk``, ``peer`` (the rank of the server that a worker talks to, or of the worker that a server
    does) and ``size`` (bytes) are shown with it, unless they are negative. Spans that one thread puts into one lane
    have to nest or follow each other; another thread's get a row of their own.
    """

    on: bool
    """Whether anything is recorded; for leaving out what is only done for the trace."""

    def now(self) -> int:
        """Return this moment, for ``add`` later."""
        ...

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
        """Record a span from ``since`` to ``until`` (0: to now)."""
        ...

    def span(
        self, lane: str, *, name: str = "", clock: int = -1, chunk: int = -1, peer: int = -1, size: int = -1
    ) -> contextlib.AbstractContextManager[None]:
        """Return a context manager that records its block; dearer than ``now`` and ``add``."""
        ...

    def link(self, station: str, lane: str, at: int, worker: int, clock: int, chunk: int) -> None:
        """Draw the way of a worker's chunk at a clock through the span of this thread that has ``at`` in it.

        ``station`` is BEGIN, PASS (any number of them) or END. Call it after the span was added.
        """
        ...

    def instant(self, lane: str, name: str, *, clock: int = -1, chunk: int = -1, peer: int = -1) -> None:
        """Record that something happened now."""
        ...

    def count(self, name: str, value: float) -> None:
        """Record what a number is from now on; it is drawn as a curve."""
        ...

    def seat(self, rank: int) -> None:
        """Say which rank this process has, when that was not known at the start."""
        ...

    def tick(self) -> None:
        """Write what has lain about for a while; for loops that wait, so that a kill -9 loses little."""
        ...

    def close(self) -> None:
        """Complete the file. Whatever is recorded later is dropped."""
        ...


class Off:
    """The trace of a process that is not traced."""

    on = False

    def now(self) -> int:
        return 0

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
        pass

    def span(
        self, lane: str, *, name: str = "", clock: int = -1, chunk: int = -1, peer: int = -1, size: int = -1
    ) -> contextlib.AbstractContextManager[None]:
        return _NOTHING

    def link(self, station: str, lane: str, at: int, worker: int, clock: int, chunk: int) -> None:
        pass

    def instant(self, lane: str, name: str, *, clock: int = -1, chunk: int = -1, peer: int = -1) -> None:
        pass

    def count(self, name: str, value: float) -> None:
        pass

    def seat(self, rank: int) -> None:
        pass

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


_NOTHING = contextlib.nullcontext()

OFF: Trace = Off()
"""The trace of a process that is not traced."""
