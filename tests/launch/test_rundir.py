"""Promises of ps.launch.rundir: one directory, one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.errors import ConfigError, UsageError
from ps.launch.rundir import announce, claimed, scheduler_of


def test_the_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    with claimed(str(tmp_path / "a" / "b")) as path:
        assert path == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "a" / "b" / "notes.txt").touch()
    with claimed(str(tmp_path / "a" / "b")):
        pass


def test_two_runs_at_once_do_not_share_one(tmp_path: Path) -> None:
    with (
        claimed(str(tmp_path / "run")),
        pytest.raises(ConfigError, match=r"run directory .*/run is in use by process \d+ .*a --run-dir of its own"),
    ):
        claimed(str(tmp_path / "run")).__enter__()
    with claimed(str(tmp_path / "run")):
        pass


def test_a_run_that_goes_on_leaves_its_record_beside_that_of_the_one_before(tmp_path: Path) -> None:
    with claimed(str(tmp_path / "run"), goes_on=True) as path:
        assert path == tmp_path / "run"
        (path / "metrics.jsonl").touch()
    with claimed(str(tmp_path / "run"), goes_on=True) as path:
        assert path == tmp_path / "run-2"


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "rounds.jsonl"])
def test_an_earlier_runs_record_is_not_touched(tmp_path: Path, name: str) -> None:
    for directory in ("run", "run-2"):
        (tmp_path / directory).mkdir()
    (tmp_path / "run" / name).touch()
    with pytest.raises(UsageError, match=r"record of an earlier run .*--run-dir .*run-3$"):
        claimed(str(tmp_path / "run")).__enter__()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write to the run directory .*: Not a directory"):
        claimed(str(tmp_path / "file" / "run")).__enter__()
    with pytest.raises(UsageError, match=r"cannot write to the run directory .*file: it is there, and no folder"):
        claimed(str(tmp_path / "file")).__enter__()


def test_the_scheduler_is_named_while_the_run_goes_on_and_not_after_it(tmp_path: Path) -> None:
    with claimed(str(tmp_path / "run")) as path:
        assert scheduler_of(path) == ""
        announce(path, "tcp://127.0.0.1:7")
        assert scheduler_of(path) == "tcp://127.0.0.1:7"
    assert scheduler_of(path) == "" and list(path.iterdir()) == []


def test_a_directory_that_takes_no_address_does_not_end_a_run(tmp_path: Path) -> None:
    announce(tmp_path / "gone", "tcp://127.0.0.1:7")
