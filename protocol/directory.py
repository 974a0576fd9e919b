"""Private directories, in which processes keep sockets and runs their state, and what dead ones left of theirs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from ps.errors import ConfigError

PREFIX = "ps-"
LOCK = ".owned"
"""A file in each directory that its owner holds a lock on for as long as it lives, however it ends."""
YOUNG = 60.0
"""Seconds for which a directory is left alone: its process may be about to take the lock."""

LONGEST = 60
"""Characters of the system's place, at most: a socket's path may have 107 bytes, and lies two directories deeper."""


class PrivateDirectory:
    """A new directory that only this user can enter, in ``parent`` or the system's place for such.

    Where the system's place has too long a path for sockets, it is /tmp. What processes killed with SIGKILL left there
    is removed: directories of ours, with all that is in them, that no living process owns.
    """

    def __init__(self, parent: str | None) -> None:
        """Raises ConfigError when the place cannot be written."""
        root = None if parent is None else Path(parent)
        try:
            if root is None:
                system = tempfile.gettempdir()
                root = Path(system if len(system) <= LONGEST else "/tmp")
            elif root.name.startswith(PREFIX):  # a launcher's, and whoever clears temporary folders may have had it
                root.mkdir(mode=0o700, exist_ok=True)
            for path in root.glob(f"{PREFIX}*"):
                with contextlib.suppress(OSError):
                    if _abandoned(path):
                        _clear(path)
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            where = "no directory for sockets" if root is None else f"no directory for sockets in {root}"
            raise ConfigError(
                f"{where}: {error.strerror}; choose another with --runtime-dir or PS_RUNTIME_DIR"
            ) from None
        _take(self._lock)

    def remove(self) -> None:
        """Remove the directory with all that is in it."""
        _clear(self.path)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _clear(path: Path) -> None:
    """Remove a directory with all that is in it, its lock last.

    Where something stays, or comes back since a process has not quite ended, the lock does too: by that whoever begins
    next knows what nobody owns.
    """
    with contextlib.suppress(OSError):
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                with contextlib.suppress(OSError):
                    entry.unlink()
        (path / LOCK).unlink(missing_ok=True)
        try:
            path.rmdir()
        except OSError:
            os.close(os.open(path / LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody else has it, or this file system has no locks
        return False
    return True


def _abandoned(path: Path) -> bool:
    about = path.lstat()
    if not path.is_dir() or path.is_symlink() or about.st_uid != os.getuid() or time.time() - about.st_mtime < YOUNG:
        return False
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # its owner was killed before it could make one, or is no process of ours
        found = list(path.iterdir())
        return bool(found) and all(entry.suffix == ".sock" for entry in found) and not any(map(_listening, found))
    try:
        return _take(lock)
    finally:
        os.close(lock)


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True
