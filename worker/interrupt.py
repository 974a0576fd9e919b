"""Interrupts: a signal that would raise, as Ctrl-C does, is held while a step is on its way.

Python runs a signal's handler between any two instructions, and what it raises would leave half a message on a channel,
or a gradient of which nobody knows whether it counts. So while this process talks to servers, handlers of the script's
wait until that is done; or, where it takes long, until it stands at a place from which it can go on later.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # ``signal`` tries to make an enum of each handler: 25 µs a step
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

GRACE = 0.5
"""Seconds for which a signal is held, at most, by whoever waits for others."""

_NAMES = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF", "SIGQUIT")
HELD = tuple(int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))
"""The signals that a script may have a handler for which raises."""


class Hold:
    """A context in which no handler of the script's runs. It may be entered again inside.

    Only the main thread has signals; elsewhere this does nothing. Handlers are put back at the end, and what came
    meanwhile is handled then. Where something is raised just before or behind it, ours may stay in their place: it does
    what they do.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._theirs: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._came: list[tuple[int, FrameType | None]] = []
        self._since = 0.0
        self._ours = self._handle

    def __enter__(self) -> None:
        if not _is_main():
            return
        if not self._depth:
            for number in HELD:
                handler = _signal.getsignal(number)
                if callable(handler) and handler is not self._ours:
                    self._theirs[number] = handler
                    _signal.signal(number, self._ours)
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not _is_main():
            return
        self._depth -= 1
        if not self._depth:
            for number, handler in self._theirs.items():
                if _signal.getsignal(number) is self._ours:
                    _signal.signal(number, handler)
            if self._came:
                self._deliver()

    def check(self) -> None:
        """Raise what a handler that has been held for long would have raised; for those who wait, at a safe place."""
        if self._came and time.monotonic() - self._since >= GRACE and _is_main():
            self._deliver()

    def _deliver(self) -> None:
        while self._came:
            number, frame = self._came.pop(0)
            self._theirs[number](number, frame)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._depth:
            if not self._came:
                self._since = time.monotonic()
            self._came.append((number, frame))
        else:
            self._theirs[number](number, frame)


class _Main:
    """The thread that has this process's signals, as a number: looked at several times in each step."""

    ident = threading.main_thread().ident

    @classmethod
    def renew(cls) -> None:
        """In a forked child it is another one."""
        cls.ident = threading.main_thread().ident


os.register_at_fork(after_in_child=_Main.renew)


def _is_main() -> bool:
    return threading.get_ident() == _Main.ident


HOLD = Hold()
"""That of this process, as signals are the process's."""
