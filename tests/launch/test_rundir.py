"""Promises of ps.launch.rundir: one directory, one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.errors import UsageError
from ps.launch.rundir import prepare


def test_the_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    assert prepare(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "a" / "b" / "notes.txt").touch()
    prepare(str(tmp_path / "a" / "b"))


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "rounds.jsonl"])
def test_an_earlier_runs_record_is_not_touched(tmp_path: Path, name: str) -> None:
    for directory in ("run", "run-2"):
        (tmp_path / directory).mkdir()
    (tmp_path / "run" / name).touch()
    with pytest.raises(UsageError, match=r"record of an earlier run .*--run-dir .*run-3$"):
        prepare(str(tmp_path / "run"))


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write to the run directory .*: Not a directory"):
        prepare(str(tmp_path / "file" / "run"))
    with pytest.raises(UsageError, match="cannot write to the run directory"):
        prepare(str(tmp_path / "file"))
