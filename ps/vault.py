"""Vault: arrays and a few plain values on disk, replaced whole, so that a process that was killed can go on.

A federated server keeps its share of the model there, and what a round that is about to be published adds to it; a
client its own state, and what it has trained and not delivered yet.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ps.errors import ConfigError
from ps.xp import HostArray

log = logging.getLogger("ps.vault")

_VALUES = "values"

Arrays = Mapping[str, HostArray]


class Vault:
    """Keeps arrays and a few plain values; without a path it keeps nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._failing: set[str] = set()
        """The names under which the last could not be kept."""

    @property
    def keeps(self) -> bool:
        """Whether there is a path."""
        return self._path is not None

    @property
    def durable(self) -> bool:
        """Whether what was kept last would outlive this process."""
        return self._path is not None and not self._failing

    def keep(self, name: str, values: Mapping[str, Any], arrays: Arrays) -> None:
        """Replace what is kept under a name. A disk that fails is told once; the job goes on without."""
        if self._path is None:
            return
        draft, path = self._file(f"{name}.draft"), self._file(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                meta = np.frombuffer(json.dumps(dict(values)).encode(), np.uint8)
                everything: dict[str, Any] = {_VALUES: meta, **arrays}
                np.savez(file, **everything)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            self._failing.discard(name)
        except OSError as error:
            if not self._failing:
                log.error("cannot keep the state in %s: %s; a restart would lose it", path, error.strerror)
            self._failing.add(name)
            with contextlib.suppress(OSError):
                draft.unlink()

    def load(self, name: str) -> tuple[dict[str, Any], dict[str, HostArray]] | None:
        """Return what is kept under a name, if anything. Raises ConfigError when the file holds something else."""
        if self._path is None or not self._file(name).exists():
            return None
        try:
            with self._file(name).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                values = json.loads(archive[_VALUES].tobytes())
                return values, {key: archive[key] for key in archive if key != _VALUES}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{self._file(name)} does not hold a state of ours: {error}; move it away") from None

    def drop(self, name: str) -> None:
        """Forget what is kept under a name."""
        if self._path is None:
            return
        self._failing.discard(name)
        with contextlib.suppress(OSError):  # what cannot be dropped is known to be old by its values
            self._file(name).unlink()

    def _file(self, name: str) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{name}")
