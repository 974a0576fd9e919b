"""RemotePlace: checkpoints in whatever fsspec understands: an object store, a bucket, memory.

Such a store has no renames that are whole or nothing, and its library remembers listings and sizes; here every look is
a new one. It has no folders either: one is there when something is in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, Any

from ps.checkpoint.blame import blaming
from ps.errors import CheckpointError, ConfigError
from ps.regular_file import shown


class RemotePlace:
    """A place with an address. Needs the extra ``fsspec``, and whatever the address's own library is."""

    def __init__(self, name: str) -> None:
        """Raises ConfigError where a library is missing, or the address is none."""
        self.name = name
        try:
            from fsspec.core import url_to_fs

            self._fs, root = url_to_fs(name, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            advice = "Try: pip install 'paramserver[fsspec]'"
            raise ConfigError(f"{shown(name)} needs a library: {error}. {advice}") from None
        except Exception as error:
            raise ConfigError(f"{shown(name)} is no folder: {error}") from None
        self._root = str(root).rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def names(self, folder: str = "") -> list[str]:
        """Return the names in a folder, see ``CheckpointPlace``."""
        at = self._at(folder)
        with self._blaming("list", at):
            self._fs.invalidate_cache()
            try:
                found: list[Any] = self._fs.ls(at, detail=False, refresh=True)
            except TypeError:  # a library that has no such word
                found = self._fs.ls(at, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            names = (str(name).rstrip("/").rpartition("/")[2] for name in found)
            return sorted({name for name in names if name})
        raise AssertionError

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a new file, see ``CheckpointPlace``. What breaks off leaves nothing, or what no manifest names."""
        at = self._at(name)
        with self._blaming("write", at):
            folder, _, own = name.rpartition("/")
            if own in self.names(folder):
                raise FileExistsError(at)
            self._fs.makedirs(at.rpartition("/")[0], exist_ok=True)  # some have folders, as sftp and file have
            with self._fs.open(at, "wb") as file:
                yield file
            self._fs.invalidate_cache()

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file, see ``CheckpointPlace``."""
        at = self._at(name)
        with self._blaming("read", at):
            self._fs.invalidate_cache()
            with self._fs.open(at, "rb", cache_type="none") as file:
                yield file

    def remove(self, name: str) -> None:
        """Remove a file, see ``CheckpointPlace``."""
        at = self._at(name)
        with self._blaming("remove", at), contextlib.suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            self._fs.rm_file(at)

    def remove_folder(self, folder: str) -> None:
        """Remove an empty folder, see ``CheckpointPlace``."""
        with contextlib.suppress(Exception):
            if not self.names(folder):
                self._fs.rmdir(self._at(folder))

    @contextlib.contextmanager
    def _blaming(self, what: str, name: str) -> Iterator[None]:
        with blaming(what, name):
            try:
                yield
            except (CheckpointError, OSError, ValueError):
                raise
            except Exception as error:  # whatever the library of a store raises
                raise CheckpointError(f"cannot {what} {shown(name)}: {type(error).__name__}: {error}") from None
