"""Database: the scheduler's memory across its own restarts, one row of JSON in an SQLite file."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import types
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ps.errors import ConfigError
from ps.regular_file import demand_regular, reason, shown

log = logging.getLogger("ps.scheduler")

_FORMAT = 1
ROUND = "round "
"""What the names of the parts begin with that are a round of a federated job each."""
NOTHING: Mapping[str, Any] = types.MappingProxyType({})


class Database:
    """Keeps the last saved state; without a path it keeps nothing.

    A save is durable against the death of the process at any instant (SQLite's journal), which is what a
    restart needs; it does not wait for the disk.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._failing = False
        if path is None:
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                demand_regular(Path(path).stat())  # SQLite would wait for a pipe
            with contextlib.suppress(FileExistsError):  # the job's secret is in it
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # two schedulers must not share a file
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS scheduler (format INTEGER PRIMARY KEY, state TEXT)")
            self._db.execute("CREATE TABLE IF NOT EXISTS parts (name TEXT PRIMARY KEY, state TEXT)")
            self._db.execute("BEGIN IMMEDIATE")  # takes the lock now, and finds out whether it may write
            self._db.execute("COMMIT")
        except (OSError, ValueError, sqlite3.Error) as error:
            self.close()
            raise ConfigError(
                f"cannot keep the scheduler's state in {shown(path)}: {reason(error)}; give another --state"
            ) from None

    @property
    def keeps(self) -> bool:
        """Whether there is a file."""
        return self._db is not None

    def wait_for_disk(self) -> None:
        """From now on a save is durable against a loss of power too: it returns when the disk has it."""
        if self._db is not None:
            self._db.execute("PRAGMA synchronous=FULL")

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None. Raises ConfigError when the file holds something else."""
        if self._db is None:
            return None
        try:
            row = self._db.execute("SELECT state FROM scheduler WHERE format = ?", (_FORMAT,)).fetchone()
            state = _unsealed(row[0]) if row else None
            if state is not None and not isinstance(state, dict):
                raise ValueError(f"it is a {type(state).__name__}")
            if state is not None:
                rounds: dict[int, Any] = {}
                for name, text in self._db.execute("SELECT name, state FROM parts"):
                    if name.startswith(ROUND):
                        rounds[int(name.removeprefix(ROUND))] = _unsealed(text)
                    else:
                        state[name] = _unsealed(text)
                if rounds:
                    state["history"] = [rounds[number] for number in sorted(rounds)]
            return state
        except (sqlite3.Error, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            why = reason(error)
            raise ConfigError(f"{self._path} does not hold a scheduler's state: {why}; move it away") from None

    def save(self, state: dict[str, Any] | None, parts: Mapping[str, Any] = NOTHING) -> bool:
        """Replace the saved state, or with None leave it, and the parts of it that are given: all of it or nothing.

        Parts called ``ROUND`` and a number come back together, as the list ``history``.
        Returns whether there is nothing left to be saved. A disk that fails is told once; the job goes on, and the
        caller tries again.
        """
        if self._db is None:
            return True
        try:
            self._db.execute("BEGIN")
            if state is not None:
                self._db.execute("REPLACE INTO scheduler VALUES (?, ?)", (_FORMAT, _sealed(state)))
            for name, part in parts.items():
                self._db.execute("REPLACE INTO parts VALUES (?, ?)", (name, _sealed(part)))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if not self._failing:
                log.error(
                    "cannot save the state in %s: %s; until it can, a restart loses what is new", self._path, error
                )
            self._failing = True
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            return False
        if self._failing:
            log.warning("the state is saved in %s again; nothing is lost", self._path)
        self._failing = False
        return True

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()


def _sealed(value: Any) -> str:
    """Return a value as JSON behind its checksum, by which damage is known that leaves it JSON: SQLite has none."""
    text = json.dumps(value)
    return f"{zlib.crc32(text.encode()):08x} {text}"


def _unsealed(sealed: str) -> Any:
    checksum, _, text = sealed.partition(" ")
    if checksum != f"{zlib.crc32(text.encode()):08x}":
        raise ValueError("its checksum is wrong, it is damaged")
    return json.loads(text)
