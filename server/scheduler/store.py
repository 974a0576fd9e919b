"""Store: the scheduler's memory across its own restarts, one row of JSON in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from ps.errors import ConfigError

_FORMAT = 1


class Store:
    """Keeps the last saved state; without a path it keeps nothing.

    A save is durable against the death of the process at any instant (SQLite's journal), which is what a
    restart needs; it does not wait for the disk.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS scheduler (format INTEGER PRIMARY KEY, state TEXT)")
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"cannot keep the scheduler's state in {path}: {error}; give another --state") from None

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None. Raises ConfigError when the file holds something else."""
        if self._db is None:
            return None
        try:
            row = self._db.execute("SELECT state FROM scheduler WHERE format = ?", (_FORMAT,)).fetchone()
            return json.loads(row[0]) if row else None
        except (sqlite3.Error, ValueError) as error:
            raise ConfigError(f"{self._path} does not hold a scheduler's state: {error}; move it away") from None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state."""
        if self._db is not None:
            self._db.execute("REPLACE INTO scheduler VALUES (?, ?)", (_FORMAT, json.dumps(state)))

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
