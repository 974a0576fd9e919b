"""Files of Unix sockets: where one is made, and whether this process can connect to it."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

from ps.errors import ConfigError

_MAX_UNIX_PATH = 107


def is_open(path: str) -> bool:
    """Whether there is a socket of this user's at a path that this process may connect to."""
    try:
        about = os.stat(path)  # noqa: PTH116
        return stat.S_ISSOCK(about.st_mode) and about.st_uid == os.geteuid() and os.access(path, os.W_OK)
    except OSError:
        return False


def new_path(directory: Path) -> Path:
    """Return a new path in a directory for a socket. Raises ConfigError when it is too long for one."""
    path = directory / f"{uuid.uuid4().hex[:12]}.sock"
    if len(str(path)) > _MAX_UNIX_PATH:
        raise ConfigError(
            f"{path} is longer than the {_MAX_UNIX_PATH} characters a Unix socket may have; "
            f"choose a shorter --runtime-dir"
        )
    return path
