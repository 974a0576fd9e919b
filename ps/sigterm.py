"""SIGTERM: how a process is asked to end, also when the asking falls into a moment that swallows exceptions.

Only processes that run one of our commands handle it so, and only where nobody had it ignored. What they fork, such as
a script's pool of processes, has the default handler, as it would have under plain python.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

ONE_ASKING = 1.0
"""Seconds within which a second signal is the same asking: a launcher and a batch system may both send one."""

LOOK = 0.02
"""Seconds between looks whether a process that does something first may end."""

_asked = 0
_asked_at = 0.0
_closing = 0
_released = False
"""Whether nobody waits any more for what was to be done first."""
_may_end: Callable[[float], bool] = bool  # the time of an asking is not 0
_forking = threading.local()


def terminate(signum: int, frame: FrameType | None) -> None:
    """Handle the signal: raise SystemExit with 128 + its number, again when it is repeated later."""
    global _asked, _asked_at, _released
    now = time.monotonic()
    again = bool(_asked)
    if again and now - _asked_at < ONE_ASKING and not _released:
        return
    _released |= again
    _asked, _asked_at = signum, now
    check()
    if not _released and not _closing:
        threading.Thread(target=_await_release, args=(signum, now), name="ps-sigterm", daemon=True).start()


def check() -> None:
    """Raise SystemExit if ``terminate`` did and nobody noticed.

    Python runs a signal's handler between any two instructions, and an exception that it raises in a finalizer is
    printed and forgotten. So loops that wait look here now and then.
    """
    if _asked and not _closing and (_released or _may_end(_asked_at)):
        raise SystemExit(128 + _asked)


def first(may_end: Callable[[float], bool]) -> None:
    """Have this process go on after it was asked to end, until ``may_end`` says that it may.

    It is given the time of the asking (monotonic, seconds), is called on any thread, and must come to say so. Whoever
    asks again, more than ONE_ASKING later, does not wait for it.
    """
    global _may_end
    _may_end = may_end


def _await_release(signum: int, asked_at: float) -> None:
    """Have the signal come once more when this process may end: its script is to hear of it wherever it is."""
    global _released
    while not _may_end(asked_at):
        time.sleep(LOOK)
    if _asked and _asked_at == asked_at and not _released:
        _released = True
        signal.pthread_kill(threading.main_thread().ident or 0, signum)


@contextlib.contextmanager
def closing() -> Iterator[None]:
    """Have what closes a process's sockets and ends its threads go through: it is ending, and needs not be asked to.

    What is done meanwhile must be bounded.
    """
    global _closing
    _closing += 1
    try:
        yield
    finally:
        _closing -= 1


def asked() -> bool:
    """Whether this process was asked to end."""
    return bool(_asked)


def status() -> int:
    """Return with which code this process is to end, 0 if it was not asked to."""
    return 128 + _asked if _asked else 0


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Have nothing raised in this process, which looks at ``status`` itself and ends when it is done."""
    if threading.current_thread() is not threading.main_thread():  # signals come to that one alone
        yield
        return
    with closing():
        yield


def forget() -> None:
    """Begin anew, for a process that runs several commands."""
    global _asked, _released
    _asked, _released = 0, False
    first(bool)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Have SIGTERM end what runs meanwhile, unless whoever started this process had it ignored."""
    forget()
    before = signal.getsignal(signal.SIGTERM)
    if before in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        forget()


def _before_fork() -> None:
    # A signal that comes before the child has its own handler has to wait, or it would be lost there.
    ours = signal.getsignal(signal.SIGTERM) is terminate
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if ours else None


def _after_fork_in_parent() -> None:
    if _forking.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _after_fork_in_child() -> None:
    forget()
    if _forking.mask is not None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
