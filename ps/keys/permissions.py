"""Permissions: files with keys belong to their user, and nobody else can change them or read what is secret.

A mounted Kubernetes secret is accepted: a link to a file of root's that the process's group may read.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from ps.errors import ConfigError


def check_folder(path: Path) -> None:
    """Raise ConfigError, with what to do, when others could put files into a folder."""
    about = path.stat()
    _check_owner(path, about)
    if about.st_mode & stat.S_IWOTH and not _is_read_only(path):
        raise ConfigError(f"others can write to the folder {path}: {_chmod('o-w', path)}")
    if about.st_mode & stat.S_IWGRP and not (_is_ours(about.st_gid) or _is_read_only(path)):
        raise ConfigError(
            f"group {about.st_gid}, which is not this process's, can write to {path}: {_chmod('g-w', path)}"
        )


def check_file(path: Path, about: os.stat_result, *, secret: bool) -> None:
    """Raise ConfigError, with what to do, when others than user and group can change a file, or read a ``secret``."""
    _check_owner(path, about)
    mode = about.st_mode
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_ours(about.st_gid)):
        raise ConfigError(f"others can change {path}: {_chmod('go-w', path)}")
    if secret and mode & stat.S_IWGRP:
        raise ConfigError(f"a group can change the private keys in {path}: {_chmod('g-w', path)}")
    if secret and mode & (stat.S_IROTH | stat.S_IXOTH):
        raise ConfigError(f"others can read the private keys in {path}: {_chmod('o-rwx', path)}; then make new ones")
    if secret and mode & stat.S_IRGRP and not _is_ours(about.st_gid):
        raise ConfigError(
            f"group {about.st_gid}, which is not this process's, can read {path}: {_chmod('g-rwx', path)}"
        )


def _check_owner(path: Path, about: os.stat_result) -> None:
    if about.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path} belongs to user {about.st_uid}, who can change it; this process's is {os.geteuid()}: "
            f"chown {os.geteuid()} {shlex.quote(str(path))}"
        )


def _is_ours(group: int) -> bool:
    return group == os.getegid() or group in os.getgroups()


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _chmod(change: str, path: Path) -> str:
    return f"chmod {change} {shlex.quote(str(path))}"
