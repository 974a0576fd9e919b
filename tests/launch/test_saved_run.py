"""Promises of saved runs: one run has a state file, waits for those before it, and says what becomes of the job."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ps.errors import ConfigError
from ps.launch.saved_run import saved_run
from ps.server.scheduler.database import Database


def take(file: Path, stop: tuple[object, ...] = ()) -> Any:
    return saved_run(str(file), 0.0, lambda text: None, stop)


def save(path: Path, **state: Any) -> None:
    database = Database(str(path))
    database.save({"phase": "running", "job": {"servers": 2}, **state})
    database.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


def test_everything_of_a_job_lies_beside_its_file_and_nothing_is_left_where_nothing_was_kept(file: Path) -> None:
    with take(file) as found:
        assert found.path("server", 1) == str(file) + ".d/server-1"
        assert (found.goes_on, found.has_ended, found.describe()) == (False, False, "")
    assert list(file.parent.iterdir()) == []


def test_a_second_run_is_refused_by_name(file: Path) -> None:
    with (
        take(file),
        pytest.raises(ConfigError, match=rf"job.db is in use by process {os.getpid()} .* every run a --st"),
    ):
        take(file).__enter__()
    with take(file):
        pass


@pytest.fixture
def straggler(file: Path) -> int:
    """What a process has that has outlived its launcher."""
    folder = Path(f"{file}.d")
    folder.mkdir()
    fd = os.open(folder / "processes.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_the_processes_of_a_run_whose_launcher_was_killed_are_waited_for(file: Path, straggler: int) -> None:
    said: list[str] = []
    waits = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    ends = threading.Thread(target=lambda: (waits.wait(20), os.close(straggler)))
    ends.start()
    with saved_run(str(file), 30.0, say, ()):
        pass
    ends.join()
    assert len(said) == 1 and "waiting for the processes of an earlier run" in said[0]


def test_they_are_not_waited_for_longer_than_they_may_take(
    file: Path, straggler: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ps.launch.saved_run.SPARE", -1.5)
    with pytest.raises(ConfigError, match=r"still live after 0 s; end those that have .*processes.lock open"):
        take(file).__enter__()
    os.close(straggler)


def test_nor_once_this_run_is_to_end_itself(file: Path, straggler: int) -> None:
    with take(file, stop=(15,)):
        pass
    os.close(straggler)


def test_a_job_that_has_ended_has_nothing_left_to_do(file: Path) -> None:
    save(file, phase="ended")
    with take(file) as found:
        found.check(servers=5)
        assert found.has_ended and not found.goes_on
        assert found.describe() == f"the job in {file} has ended in good order; for another one give another --state"


def test_rounds_are_gone_on_with_on_as_many_servers_as_have_the_model(file: Path) -> None:
    save(file, rounds={}, history=[{"round": 0}])
    with take(file) as found:
        assert found.goes_on and found.describe().startswith(f"going on with the job in {file} after 1 rounds; ")
        found.check(servers=2)
        with pytest.raises(ConfigError, match="on 2 servers: give -s 2"):
            found.check(servers=1)


def test_any_other_job_begins_anew_on_as_many_servers_as_one_likes(file: Path) -> None:
    save(file)
    with take(file) as found:
        found.check(servers=1)
        assert not found.goes_on


def test_parts_of_a_model_without_their_jobs_file_are_not_begun_anew_with(file: Path) -> None:
    with take(file) as found:
        Path(found.path("server", 0) + ".model").touch()
    with take(file) as found, pytest.raises(ConfigError, match=r"job.db is gone, but .*job.db.d has what .* move the"):
        found.check(servers=1)


def test_a_file_of_something_else_is_refused(file: Path) -> None:
    file.write_text("notes, not a database" * 100)
    with pytest.raises(ConfigError, match=r"job\.db"):
        take(file).__enter__()
