"""Regular file: what is read is a file, and no larger than it may be. Whatever is wrong with it is one line."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ps.errors import PSError, UsageError
from ps.text import shortened

SOURCE = 16 << 20
"""Bytes of a file of Python, at most."""
LONGEST_NAME = 400
"""Characters of a name in a message."""


def open_regular(path: str | Path, most: int | None = None) -> io.BufferedReader:
    """Open a file for reading. Raises OSError; ValueError for a device, a pipe or more than ``most`` bytes."""
    # Of a pipe that nobody writes to, the opening would not return.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(fd)
        demand_regular(about)
        if most is not None and about.st_size > most:
            raise ValueError(f"it is larger than {most} bytes")
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def demand_regular(about: os.stat_result) -> None:
    """Raise OSError for a folder, ValueError for a device, a pipe or a socket."""
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is a device, a pipe or a socket, not a file")


def refuse_pipe(path: str | Path) -> None:
    """Raise OSError for a named pipe: its opening, to be written, would wait for somebody who reads."""
    if Path(path).is_fifo():
        raise OSError(errno.ENXIO, "it is a pipe, and no file")


def read_regular(path: str | Path, most: int) -> bytes:
    """Return what a file holds. Raises as ``open_regular`` does."""
    with open_regular(path, most) as file:
        data = file.read(most + 1)  # it may have grown, and what /proc holds has no size
    if len(data) > most:
        raise ValueError(f"it is larger than {most} bytes")
    return data


@contextlib.contextmanager
def blaming(
    path: str | Path, what: str = "file", source: str = "", error: type[PSError] = UsageError
) -> Iterator[None]:
    """Say in one line what went wrong inside: raise ``error`` with the file, what it is to be and who named it.

    For reading and parsing alone: whatever damage makes a parser raise is the file's fault.
    """
    try:
        yield
    except PSError:
        raise
    except FileNotFoundError:
        raise error(f"{source and f'{source}: '}there is no {what} {shown(path)}") from None
    except Exception as found:
        name = shown(path) if what == "file" else f"the {what} {shown(path)}"
        raise error(f"cannot read {name}{source and f' (from {source})'}: {reason(found)}") from None


def reason(error: Exception) -> str:
    """Return in a few words why something could not be read, or a folder not be made."""
    if isinstance(error, FileExistsError):
        return "it is there, and no folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it is larger than the memory"
    if isinstance(error, UnicodeEncodeError):
        return "its name cannot be written"
    return shortened(" ".join(str(error).split()) or type(error).__name__, LONGEST_NAME)


def shown(path: str | Path) -> str:
    """Return a path for a message: cut where it is long, on one line whatever it holds."""
    text = str(path)
    return shortened(text if text.isprintable() else repr(text), LONGEST_NAME)
