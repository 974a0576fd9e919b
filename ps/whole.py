"""Whole files: what is at a path is replaced by all of something new, or stays as it is."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ps.errors import PSError, UsageError
from ps.regular_file import reason, shown


def check_writable(name: str | Path, what: str) -> Path:
    """Return the path of a file that is to be written later. Raises UsageError, naming ``what`` it is to hold, when
    there can be none. What is there already is not touched."""
    try:
        path = Path(os.path.realpath(name))
        if path.exists() and not path.is_file():
            raise UsageError(f"cannot write {what} to {name}: it is there, and is no file")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {what} to {shown(name)}: {reason(error)}") from None
    return path


@contextlib.contextmanager
def draft(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` once the block is through. Raises OSError; then nothing is changed.

    It is on the disk by then, and has the place's permissions.
    """
    place = Path(os.path.realpath(path))
    own = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with own.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            own.chmod(place.stat().st_mode & 0o777)
        own.replace(place)
    finally:
        own.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file. Raises PSError, and leaves what was there, when that cannot be."""
    try:
        with draft(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise PSError(f"cannot write {path}: {error.strerror}") from None
