"""Promises of the scheduler's file: it outlives a kill, and a file that is not ours is named and left alone."""

from __future__ import annotations

import logging
import signal
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ps.errors import ConfigError
from ps.server.scheduler.database import Database


def test_without_a_path_nothing_is_kept() -> None:
    store = Database(None)
    store.save({"a": 1})
    assert store.load() is None
    store.close()


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "state.db")
    store = Database(path)
    assert store.load() is None
    for n in range(3):
        store.save({"n": n})
    store.close()
    again = Database(path)
    assert again.load() == {"n": 2}
    again.close()


def test_a_save_outlives_a_kill(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    code = (
        "import os, signal, sys\nfrom ps.server.scheduler.database import Database\n"
        "store = Database(sys.argv[1])\nfor n in range(50): store.save({'n': n})\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    store = Database(path)
    assert store.load() == {"n": 49}
    store.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 100, b"short"])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"notes\.txt: file is not a database; give another --state"):
        Database(str(path)).load()
    assert path.read_bytes() == content


def sealed(text: str, wrong: int = 0) -> str:
    return f"{zlib.crc32(text.encode()) + wrong:08x} {text}"


@pytest.mark.parametrize("text", ["{", "[1]", "7", "null;", sealed("{"), sealed("[1]"), sealed('{"a": 1}', wrong=1)])
def test_a_state_that_is_damaged_is_refused(tmp_path: Path, text: str) -> None:
    path = str(tmp_path / "state.db")
    Database(path).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO scheduler VALUES (1, ?)", (text,))
    db.close()
    store = Database(path)
    with pytest.raises(ConfigError, match="does not hold a scheduler's state"):
        store.load()
    store.close()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot keep the scheduler's state in"):
        Database(str(tmp_path / "file" / "state.db"))
    with pytest.raises(ConfigError, match="cannot keep the scheduler's state in"):
        Database(str(tmp_path))


def test_two_schedulers_do_not_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    first = Database(path)
    with pytest.raises(ConfigError, match="database is locked; give another --state"):
        Database(path)
    first.close()
    Database(path).close()


def test_a_disk_that_fails_later_is_told_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def execute(self, *_: object) -> None:
            raise sqlite3.OperationalError("disk is full")

        def close(self) -> None:
            pass

    store = Database(str(tmp_path / "state.db"))
    store.close()
    monkeypatch.setattr(store, "_db", Broken())
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            store.save({})
    assert [record.message.count("disk is full") for record in caplog.records] == [1]


def test_nobody_else_may_read_the_jobs_secret(tmp_path: Path) -> None:
    Database(str(tmp_path / "state.db")).close()
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0
