"""Promises of the directories for sockets: private, and none is left for ever."""

import os
import socket
import time
from pathlib import Path

from ps.protocol.directory import YOUNG, private_directory, remove


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


def test_remove_takes_the_sockets_along(tmp_path: Path) -> None:
    directory = left_behind(tmp_path)
    remove(directory)
    assert not directory.exists()
