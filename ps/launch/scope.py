"""What surrounds a launcher while it runs: signals kept for later, and a private temporary directory."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ps.errors import PSError
from ps.launch.lifeline import RUNTIME_PREFIX

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_RUNTIME_DIR = 60  # a Unix socket's path may have 107 bytes


@contextlib.contextmanager
def signals_into(received: list[int]) -> Iterator[None]:
    """Collect the signals that end a launcher in a list, instead of having them interrupt it anywhere."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    for signum in SIGNALS:
        signal.signal(signum, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def runtime_directory(parent: str | None) -> Iterator[Path]:
    """Make a directory that only this user can enter, under a short path, and remove it in the end."""
    parent = parent or tempfile.gettempdir()
    if len(parent) > _LONGEST_RUNTIME_DIR:
        parent = "/tmp"
    try:
        path = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir=parent))
    except OSError as error:
        raise PSError(f"cannot make a directory for sockets in {parent}: {error.strerror}") from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
