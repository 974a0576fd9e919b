"""StateFile: arrays and a few plain values on disk, replaced whole, so that a process that was killed can go on.

A federated server keeps its share of the model there, and what a round that is about to be published adds to it; a
client its own state, and what it has trained and not delivered yet.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ps.errors import ConfigError
from ps.lock import Lock
from ps.regular_file import open_regular, reason
from ps.xp import HostArray

log = logging.getLogger("ps.state_file")

RETRY = 5.0
"""Seconds after which what could not be kept is tried again."""

_VALUES = "values"

Arrays = Mapping[str, HostArray]
Stamp = tuple[int, int, int] | None
"""By which a file is told from another one in its place; None for none."""


class StateFile:
    """Keeps arrays and a few plain values; without a path it keeps nothing.

    What another process has written under a name since this one looked is newer, and is left as it is.
    """

    def __init__(self, path: str | None, lock: Lock | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._lock = lock
        self._failing: set[str] = set()
        """The names under which the last could not be kept."""
        self._taken: set[str] = set()
        """The names under which another process keeps something."""
        self._stamps: dict[str, Stamp] = {}
        self._tried = 0.0

    @staticmethod
    def open(path: str | None) -> StateFile:
        """Return this process's own. Raises ConfigError when another process has it, or it can never be written."""
        return StateFile(path, None if path is None else Lock(Path(path)))

    def close(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            self._lock.release()

    @property
    def keeps(self) -> bool:
        """Whether there is a path."""
        return self._path is not None

    @property
    def durable(self) -> bool:
        """Whether what was kept last would outlive this process."""
        return self._path is not None and not self._failing

    @property
    def due(self) -> bool:
        """Whether something that could not be kept is to be tried again now."""
        return bool(self._failing - self._taken) and time.monotonic() - self._tried >= RETRY

    def failing(self, name: str) -> bool:
        """Whether the last under a name could not be kept."""
        return name in self._failing

    def keep(self, name: str, values: Mapping[str, Any], arrays: Arrays) -> None:
        """Replace what is kept under a name. A disk that fails is told once; the job goes on without."""
        if self._path is None or self._is_taken(name):
            return
        draft, path = self._file(f"{name}.draft"), self._file(name)
        self._tried = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                meta = np.frombuffer(json.dumps(dict(values)).encode(), np.uint8)
                everything: dict[str, Any] = {_VALUES: meta, **arrays}
                np.savez(file, **everything)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            self._stamps[name] = self._stamp(name)
            if self._failing and not self._failing - {name}:
                log.warning("the state is kept in %s again", path)
            self._failing.discard(name)
        except OSError as error:
            if not self._failing:
                log.error("cannot keep the state in %s: %s; a restart would lose it", path, error.strerror)
            self._failing.add(name)
            with contextlib.suppress(OSError):
                draft.unlink()

    def load(self, name: str) -> tuple[dict[str, Any], dict[str, HostArray]] | None:
        """Return what is kept under a name, if anything. Raises ConfigError when the file holds something else."""
        with self._archive(name) as archive:
            if archive is None:
                return None
            return _values(archive), {key: archive[key] for key in archive if key != _VALUES}

    def glance(self, name: str) -> dict[str, Any] | None:
        """Return the plain values of what is kept under a name, as ``load`` does, without reading the arrays."""
        with self._archive(name) as archive:
            return None if archive is None else _values(archive)

    @contextlib.contextmanager
    def _archive(self, name: str) -> Iterator[Any]:
        with self.reading(name), contextlib.ExitStack() as stack:
            found = None
            if self._path is not None:
                self._stamps[name] = self._stamp(name)
                with contextlib.suppress(FileNotFoundError):
                    file = stack.enter_context(open_regular(self._file(name)))
                    found = stack.enter_context(np.load(file, allow_pickle=False))
            yield found

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Whatever goes wrong inside is the file's fault: raise ConfigError, naming it."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:  # damaged archives have many ways to fail
            text = reason(error)
            raise ConfigError(f"{self._file(name)} does not hold a state of ours: {text}; move it away") from None

    def drop(self, name: str) -> None:
        """Forget what is kept under a name."""
        if self._path is None or self._is_taken(name):
            return
        self._failing.discard(name)
        with contextlib.suppress(OSError):  # what cannot be dropped is known to be old by its values
            self._file(name).unlink()
        self._stamps[name] = self._stamp(name)

    def _is_taken(self, name: str) -> bool:
        """Whether another process has written here meanwhile: there was no lock, or the disk has none."""
        if self._stamps.setdefault(name, self._stamp(name)) != self._stamp(name) and name not in self._taken:
            log.error(
                "another process has written %s; this one leaves it alone, and a restart would lose its own state. "
                "Give every process a --state of its own",
                self._file(name),
            )
            self._taken.add(name)
            self._failing.add(name)
        return name in self._taken

    def _stamp(self, name: str) -> Stamp:
        try:
            found = self._file(name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _file(self, name: str) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{name}")


def _values(archive: Any) -> dict[str, Any]:
    values = json.loads(archive[_VALUES].tobytes())
    if not isinstance(values, dict):
        raise ValueError(f"its values are a {type(values).__name__}")
    return values
