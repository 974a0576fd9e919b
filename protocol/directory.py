"""The private directory in which a process keeps its Unix sockets, and what dead processes left of theirs."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from pathlib import Path

from ps.errors import ConfigError

PREFIX = "ps-"
YOUNG = 60.0
"""Seconds for which a directory is left alone: its process may be about to listen there."""

LONGEST = 60
"""Characters of the system's place, at most: a socket's path may have 107 bytes, and lies two directories deeper."""


def private_directory(parent: str | None) -> Path:
    """Return a new directory that only this user can enter, in ``parent`` or the system's place for such.

    Where the system's place has too long a path for sockets, it is /tmp. What processes killed with SIGKILL left there
    is removed: directories of ours in whose sockets nobody listens.
    Raises ConfigError when the place cannot be written.
    """
    system = tempfile.gettempdir()
    root = Path(parent or (system if len(system) <= LONGEST else "/tmp"))
    for path in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if _abandoned(path):
                remove(path)
    try:
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    except OSError as error:
        raise ConfigError(
            f"no directory for sockets in {root}: {error.strerror}; choose another with --runtime-dir or PS_RUNTIME_DIR"
        ) from None


def remove(directory: Path) -> None:
    """Remove a directory of sockets."""
    for path in directory.glob("*.sock"):
        path.unlink(missing_ok=True)
    directory.rmdir()


def _abandoned(path: Path) -> bool:
    about = path.lstat()
    if not path.is_dir() or path.is_symlink() or about.st_uid != os.getuid() or time.time() - about.st_mtime < YOUNG:
        return False
    found = list(path.iterdir())
    return bool(found) and all(entry.suffix == ".sock" for entry in found) and not any(map(_listening, found))


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
