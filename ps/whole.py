"""Whole files: what is at a path is replaced by all of something new, or stays as it is."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ps.errors import PSError, UsageError
from ps.regular_file import reason, shown


def check_writable(name: str | os.PathLike[str], what: str) -> Path:
    """Return the path of a file that is to be written later. Raises UsageError, naming ``what`` it is to hold, when
    there can be none. What is there already is not touched."""
    try:
        path = Path(os.path.realpath(name))
        if path.exists() and not path.is_file():
            raise UsageError(f"cannot write {what} to {name}: it is there, and is no file")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"cannot write {what} to {shown(str(name))}: {reason(error)}") from None
    return path


@contextlib.contextmanager
def draft(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` once the block is through. Raises OSError; then nothing is changed.

    It is on the disk by then, and has the place's permissions.
    """
    with replacement(path) as own, own.open("wb") as file:
        yield file


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Yield where to write the file that takes the place of ``path`` once the block is through, as ``draft`` does."""
    place = Path(os.path.realpath(path))
    own = place.with_name(f".{place.name}.{secrets.token_hex(4)}")  # a process's number is not its own on other hosts
    try:
        own.touch()
        mode = (place if place.exists() else own).stat().st_mode & 0o777
        yield own
        with own.open("rb+") as file:
            os.fsync(file.fileno())
        own.chmod(mode)
        own.replace(place)
    finally:
        own.unlink(missing_ok=True)


def numbered(name: str, clock: int) -> str:
    """Return the name of a file that is written at a clock: ``{clock}`` in it is that number."""
    return name.replace("{clock}", str(clock))


def write_whole(path: Path, text: str) -> None:
    """Write a text file. Raises PSError, and leaves what was there, when that cannot be."""
    try:
        with draft(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise PSError(f"cannot write {path}: {error.strerror}") from None
