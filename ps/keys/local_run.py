"""Local run: the keys of a run on this host, for this user's other commands to find while it lasts.

They lie in the run's private folder, beside an empty file that is named after its scheduler's port.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ps.loopback import is_loopback

OWNED = ".owned"
"""A file that the run's launcher holds a lock on, in the folder that has its keys."""
KEYS = "keys"


def folder_of(address: str, role: str) -> str | None:
    """Return the folder with the keys for a role in the run whose scheduler is at an address of this host, if any."""
    try:
        parts = urlsplit(address)
        port = parts.port if is_loopback(parts.hostname or "") else None
    except ValueError:
        return None
    for path in _folders() if port else ():
        with contextlib.suppress(OSError):
            found = path / KEYS / role
            if _is_private(path) and (path / KEYS / f"{port}.port").exists() and found.is_dir() and _is_alive(path):
                return str(found)
    return None


def announce(address: str, keys: Path) -> None:
    """Have these keys be found for the scheduler at an address."""
    (keys / f"{urlsplit(address).port}.port").touch(mode=0o600)


def _folders() -> Iterator[Path]:
    places = {"/tmp", os.environ.get("PS_RUNTIME_DIR") or "/tmp"}
    with contextlib.suppress(FileNotFoundError):  # there may be no folder that can be written to
        places.add(tempfile.gettempdir())
    for place in sorted(places):
        with contextlib.suppress(OSError):
            yield from Path(place).glob("ps-*")


def _is_private(path: Path) -> bool:
    about = path.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077


def _is_alive(path: Path) -> bool:
    fd = os.open(path / OWNED, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
