"""Lock: one process at a time has a file. The lock dies with its process, and what that forks does not keep it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from ps.errors import ConfigError

log = logging.getLogger("ps.lock")

PATIENCE = 1.0
"""Seconds for which a process that has the lock may take to end: it was killed just now, perhaps."""
NAP = 0.02

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Lock:
    """Held from its making to ``release``. It lies in a file of its own, which says who has it."""

    def __init__(self, path: Path, *, what: str = "", advice: str = "give every process a --state of its own") -> None:
        """``path``: of the file to be locked; ``.lock`` is put behind it.

        ``what``: its name for people, if not the path; ``advice``: for whoever is refused.

        Raises ConfigError when a live process has it, or when the folder cannot be written.
        """
        self._file = path.with_name(f"{path.name}.lock")
        self._what, self._advice = what or str(path), advice
        self._fd: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            deadline = time.monotonic() + PATIENCE
            while (fd := self._take(path, time.monotonic() < deadline)) is None:
                time.sleep(NAP)
            self._fd = fd
        except OSError as error:
            if error.errno not in _FULL:
                raise ConfigError(f"cannot keep a state in {path}: {error.strerror}; give another --state") from None
            log.error("cannot lock %s: %s; nobody else must use it", path, error.strerror)
        _held.add(self)

    def _take(self, path: Path, patient: bool) -> int | None:
        """Return the locked file; None to try again: it has been removed meanwhile, or another has it and may end."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if patient:
                    os.close(fd)
                    return None
                who = os.read(fd, 200).decode(errors="replace").strip() or "another process"
                raise ConfigError(f"{self._what} is in use by {who}, which is alive; {self._advice}") from None
            except OSError as error:  # a file system without locks
                log.warning("cannot lock %s: %s; nobody else must use it", path, error.strerror)
                return fd
            here = os.fstat(fd)
            with contextlib.suppress(FileNotFoundError):
                there = self._file.stat()
                if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                    with contextlib.suppress(OSError):  # on a full disk nobody is named
                        os.ftruncate(fd, 0)
                        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def release(self) -> None:
        """Let another process have the file; doing so twice does nothing."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self._file.unlink()
            self.forget()

    def forget(self) -> None:
        """Close what this process has of the lock, without giving it up for another that has it too."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def wait_for_lock(
    path: Path, limit: float, what: str, say: Callable[[str], None], stop: Sequence[object]
) -> tuple[int, bool]:
    """Open a file that every process of a run is handed, and wait, until there is anything in ``stop``, for those of
    an earlier run that was cut off to end, which is when nobody has it locked.

    ``what``: what the earlier run and this one have in common. Return its descriptor, which is to be closed, and
    whether they are still there after ``limit`` seconds. Raises OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return fd, _outlived(fd, limit, what, say, stop)
    except BaseException:
        os.close(fd)
        raise


def _outlived(fd: int, limit: float, what: str, say: Callable[[str], None], stop: Sequence[object]) -> bool:
    deadline, said = time.monotonic() + limit, False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            return False
        if stop:
            return False
        if time.monotonic() > deadline:
            return True
        if not said:
            said = True
            say(f"waiting for the processes of an earlier run with {what} to end, {limit:.0f} s at most")
        time.sleep(NAP)


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
