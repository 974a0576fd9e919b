"""Promises of saved jobs: what is in a scheduler's file is told without one, and a file of others is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.errors import ConfigError
from ps.server.scheduler.database import ROUND, Database
from ps.server.scheduler.saved_job import SavedJob


def test_where_nothing_was_saved_there_is_no_job(tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    assert SavedJob.read(path) == SavedJob("", 0, False, [])
    assert not path.exists(), "to look leaves nothing behind"
    Database(str(path)).close()
    assert SavedJob.read(path) == SavedJob("", 0, False, [])


def test_a_job_is_told_with_its_rounds_in_order(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "job.db"))
    rounds = {f"{ROUND}{number}": {"round": number} for number in (1, 0, 10, 2)}
    database.save({"phase": "running", "job": {"servers": 3}}, {"rounds": {}, **rounds})
    database.close()
    found = SavedJob.read(tmp_path / "job.db")
    assert (found.phase, found.servers, found.has_rounds) == ("running", 3, True)
    assert [entry["round"] for entry in found.history] == [0, 1, 2, 10]


def test_a_job_that_nobody_has_configured_yet_has_no_servers_and_no_rounds(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "job.db"))
    database.save({"phase": "waiting", "job": None})
    database.close()
    assert SavedJob.read(tmp_path / "job.db") == SavedJob("waiting", 0, False, [])


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.db").write_bytes(b"SQLite format 3\0" + bytes(4000))
    with pytest.raises(ConfigError, match=r"job\.db"):
        SavedJob.read(tmp_path / "job.db")
