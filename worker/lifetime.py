"""Lifetime: whose a connection is, and its end: by the script, or by what is left of it when the process exits."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

from ps.errors import PSError, StateError, TrainingStopped
from ps.worker.script import describe

log = logging.getLogger("ps.worker")


class Lifetime:
    """A connection belongs to the thread that made it, and is closed once."""

    def __init__(self, finish: Callable[[], None], leave: Callable[[str], None]) -> None:
        """``finish`` does what comes last in good order; ``leave`` takes why it was not, and is always called."""
        self._finish = finish
        self._leave = leave
        self._closed = False
        self._process, self._thread = os.getpid(), threading.get_ident()
        atexit.register(self.at_exit)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def demand(self) -> None:
        """Raise StateError where the connection may not be used."""
        if self._closed:
            raise StateError("this connection is closed")
        if (self._process, self._thread) != (os.getpid(), threading.get_ident()):
            raise StateError("this connection belongs to another thread or process; connect in the one that trains")

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Have the connection be this thread's for a while, in which the one that made it has nothing to do with it."""
        owner, self._thread = self._thread, threading.get_ident()
        try:
            yield
        finally:
            self._thread = owner

    def close(self, failure: str = "") -> None:
        """End it; the second time, and in a forked child, which has no part in the job, do nothing."""
        if self._closed or self._process != os.getpid():
            return
        try:
            if not failure and self._thread == threading.get_ident():
                self._finish()
        finally:
            self._closed = True
            atexit.unregister(self.at_exit)
            self._leave(failure)

    def exit(self, error: BaseException | None) -> bool:
        """End it with the block of a script that ended with this error; the script's own error counts.

        Return whether that was no error: training was stopped.
        """
        stopped = isinstance(error, TrainingStopped)
        if stopped:
            log.warning("%s; the script went on with steps, and its block ends here (kv.stopped tells)", error)
        try:
            self.close(describe(error))
        except Exception as trouble:
            if error is None or stopped:
                raise
            log.error("while leaving: %s: %s", type(trouble).__name__, trouble)
        return stopped

    def at_exit(self) -> None:
        """Close for a script that did not; ``sys.last_value`` is what it ended with, if it was an exception."""
        try:
            self.close("" if hasattr(sys, "ps1") else describe(getattr(sys, "last_value", None)))
        except PSError as error:
            log.error("%s: %s", type(error).__name__, error)
