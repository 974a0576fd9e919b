"""CheckpointPlace: where checkpoints are, as a few operations that a folder and an object store both have.

No renaming, and no listing that is remembered: another machine may write at the same time. What is there as a whole is
said by files that are written last. Names have ``/`` between their parts.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, cast

from ps.checkpoint.blame import blaming
from ps.checkpoint.direct_file import DirectFile
from ps.errors import CheckpointError
from ps.regular_file import open_regular, shown

_MOST_REMOVALS = 10
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[^:]*)?://")


class CheckpointPlace(Protocol):
    """A folder of checkpoints. Everything raises CheckpointError for what goes wrong otherwise than said here."""

    name: str
    """As the user has it."""

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what is directly in a folder, as it is now; none where there is no such folder."""
        ...

    def writing(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a new file for writing. Raises FileExistsError when it is there. It is on the disk after the block."""
        ...

    def reading(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a file for reading, as it is now. Raises FileNotFoundError when there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def remove_folder(self, folder: str) -> None:
        """Remove a folder that is empty; leave one that is not."""
        ...


def place(name: str) -> CheckpointPlace:
    """Return the place of this name, made if it is a folder that is not there. Raises CheckpointError, ConfigError."""
    if is_address(name):
        from ps.checkpoint.remote_place import RemotePlace

        return RemotePlace(name)
    return LocalPlace(Path(name))


def is_address(name: str) -> bool:
    """Whether a name is none of a folder, but something that fsspec may understand."""
    return _ADDRESS.match(name) is not None


class LocalPlace:
    """A folder of this machine, or one that it has mounted."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path.absolute()  # a script may go elsewhere

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder, see ``CheckpointPlace``."""
        with blaming("list", self._path / folder):
            try:
                return sorted(path.name for path in (self._path / folder).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []
        raise AssertionError

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a new file, see ``CheckpointPlace``."""
        path = self._path / name
        with blaming("write", path):
            with _made(path) as file:
                yield cast("IO[bytes]", file)
                file.flush()
                os.fsync(file.fileno())
            _sync(path.parent)

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file, see ``CheckpointPlace``."""
        path = self._path / name
        with blaming("read", path), open_regular(path) as file:
            yield file

    def remove(self, name: str) -> None:
        """Remove a file, see ``CheckpointPlace``."""
        with blaming("remove", self._path / name):
            (self._path / name).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        """Remove an empty folder, see ``CheckpointPlace``."""
        with contextlib.suppress(OSError):
            (self._path / folder).rmdir()


def _made(path: Path) -> DirectFile:
    """Open a new file in a folder that is made, perhaps again: who gives up its part removes it where it is empty."""
    for _ in range(_MOST_REMOVALS):
        _make(path.parent)
        with contextlib.suppress(FileNotFoundError):
            return DirectFile(path)
    return DirectFile(path)


def _make(folder: Path) -> None:
    """Make a folder, and those that it is in, so that their names are on the disk."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk; not all file systems have that."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_all(place: CheckpointPlace, name: str, most: int) -> bytes:
    """Return what a file holds. Raises FileNotFoundError, CheckpointError for more than ``most`` bytes."""
    with place.reading(name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise CheckpointError(f"{shown(name)} is larger than {most} bytes")
    return data


def write_all(place: CheckpointPlace, name: str, data: bytes) -> None:
    """Write a new file. Raises FileExistsError, CheckpointError."""
    with place.writing(name) as file:
        file.write(data)
