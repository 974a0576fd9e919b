"""What surrounds a launcher while it runs: signals kept for later, and a private temporary directory."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from ps.protocol.directory import PrivateDirectory

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_into(received: list[int]) -> Iterator[None]:
    """Collect the signals that end a launcher in a list, instead of having them interrupt it anywhere.

    Those that were ignored when it was started (nohup, a shell's ``&``) stay so. Another thread than the main one, from
    which a program may call ``ps.run``, gets none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    before = {signum: handler for signum, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for signum in before:
        signal.signal(signum, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def runtime_directory(parent: str | None) -> Iterator[Path]:
    """Make a private directory for a run, and remove it with all that is in it in the end."""
    made = PrivateDirectory(parent)
    try:
        yield made.path
    finally:
        made.remove()


def interrupt(signum: int) -> None:
    """Do what this program does at such a signal, now that nothing of the run is left."""
    signal.raise_signal(signum)
    if signum == signal.SIGINT:  # its handler goes on, and there is nothing to return
        raise KeyboardInterrupt
    raise SystemExit(128 + signum)
