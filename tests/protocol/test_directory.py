"""Promises of the directories for sockets: private, and none is left for ever."""

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from ps.errors import ConfigError
from ps.protocol.directory import LONGEST, YOUNG, private_directory, remove


def aged(path: Path) -> Path:
    long_ago = time.time() - 2 * YOUNG
    os.utime(path, (long_ago, long_ago))
    return path


def left_behind(parent: Path) -> Path:
    """Make what a killed server leaves: a directory with a socket in which nobody listens."""
    directory = private_directory(str(parent))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "a.sock"))
        dead.listen()
    return aged(directory)


def test_only_its_owner_can_enter(tmp_path: Path) -> None:
    assert private_directory(str(tmp_path)).stat().st_mode & 0o777 == 0o700


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    old = left_behind(tmp_path)
    new = private_directory(str(tmp_path))
    assert not old.exists()
    assert new.exists()


def test_a_directory_in_which_somebody_listens_stays(tmp_path: Path) -> None:
    directory = private_directory(str(tmp_path))
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(directory / "a.sock"))
        alive.listen()
        aged(directory)
        private_directory(str(tmp_path))
        assert (directory / "a.sock").exists()


def test_a_young_directory_and_one_with_other_files_stay(tmp_path: Path) -> None:
    young = private_directory(str(tmp_path))
    other = left_behind(tmp_path)
    (other / "notes.txt").write_text("mine")
    aged(other)
    private_directory(str(tmp_path))
    assert young.exists()
    assert (other / "notes.txt").exists()


def test_a_place_too_deep_for_sockets_is_not_taken_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * LONGEST)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    directory = private_directory(None)
    directory.rmdir()
    assert directory.parent == Path("/tmp")
    assert private_directory(str(deep)).parent == deep


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no directory for sockets in .*/gone: No such .*--runtime-dir"):
        private_directory(str(tmp_path / "gone"))


def test_remove_takes_the_sockets_along(tmp_path: Path) -> None:
    directory = left_behind(tmp_path)
    remove(directory)
    assert not directory.exists()
