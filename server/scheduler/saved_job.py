"""SavedJob: what a scheduler's file says of its job, for whoever starts one. The file's form is nobody else's."""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path
from typing import Any

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.server.scheduler.database import Database


@dataclass(frozen=True, slots=True)
class SavedJob:
    """A job as it was saved last; ``phase`` is empty where nothing was.

    ``servers``: how many it has, 0 while that is not known; ``history``: the rounds that were published, in order.
    """

    phase: str = ""
    servers: int = 0
    has_rounds: bool = False
    """Whether there are rounds to go on with: of any other job the servers keep nothing."""
    history: list[dict[str, Any]] = field(default_factory=list)
    dp: str = ""
    """The privacy budget that it has, as ``--dp`` has it; empty for none."""
    privacy: dict[str, Any] = field(default_factory=dict)
    """What has been paid for out of it."""

    @staticmethod
    def read(path: Path) -> SavedJob:
        """Return what is in a file, or nothing where there is none. Raises ConfigError for a file of another kind."""
        if not os.path.lexists(path):
            return SavedJob()
        database = Database(str(path))
        try:
            saved = database.load() or {}
        finally:
            database.close()
        job, phase, history = saved.get("job") or {}, saved.get("phase", ""), saved.get("history", [])
        servers = job.get("servers", 0) if isinstance(job, dict) else None
        if not isinstance(servers, int) or not isinstance(phase, str) or not isinstance(history, list):
            raise ConfigError(f"{path} does not hold a scheduler's state; move it away")
        rounds = saved.get("rounds")
        parts = rounds.get("contributions") if isinstance(rounds, dict) else None
        privacy = (parts.get("privacy") if isinstance(parts, dict) else None) or {}
        return SavedJob(phase, servers, "rounds" in saved, history, str(job.get("dp") or ""), privacy)
