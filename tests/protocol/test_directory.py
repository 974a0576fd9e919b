"""Promises of the directories for sockets: private, and none is left for ever."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import pytest

from ps.errors import ConfigError
from ps.protocol.directory import LONGEST, YOUNG, PrivateDirectory


def private_directory(parent: str | None) -> Path:
    """Make a directory whose owner ends at once."""
    made = PrivateDirectory(parent)
    os.close(made._lock)
    return made.path


def aged(path: Path) -> Path:
    long_ago = time.time() - 2 * YOUNG
    os.utime(path, (long_ago, long_ago))
    return path


def left_behind(parent: Path) -> Path:
    """Make what a killed run leaves: copies of a model, a server's folder in it, a socket in which nobody listens."""
    directory = private_directory(str(parent))
    inner = private_directory(str(directory))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(inner / "a.sock"))
        dead.listen()
    (directory / "server-0.state.values").write_text("a model")
    return aged(directory)


def test_only_its_owner_can_enter(tmp_path: Path) -> None:
    assert private_directory(str(tmp_path)).stat().st_mode & 0o777 == 0o700


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    old = left_behind(tmp_path)
    new = private_directory(str(tmp_path))
    assert not old.exists()
    assert new.exists()


def test_what_is_killed_while_it_removes_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = left_behind(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ps.protocol.directory.shutil.rmtree", mock.Mock(side_effect=KeyboardInterrupt))
        private_directory(str(tmp_path))
    assert aged(old).exists()
    private_directory(str(tmp_path))
    assert not old.exists()


def test_what_comes_back_while_it_is_removed_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = PrivateDirectory(str(tmp_path))
    (made.path / "keys").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("ps.protocol.directory.shutil.rmtree", mock.Mock())  # as if a process made it anew
        made.remove()
    assert aged(made.path).exists()
    private_directory(str(tmp_path))
    assert not made.path.exists()


def test_a_directory_whose_owner_lives_stays_however_old_and_goes_when_it_ends(tmp_path: Path) -> None:
    body = (
        "import sys; from ps.protocol.directory import PrivateDirectory\n"
        "print(PrivateDirectory(sys.argv[1]).path, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", body, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        directory = aged(Path(owner.stdout.readline().strip()))
        private_directory(str(tmp_path))
        assert directory.exists()
        owner.kill()
    private_directory(str(tmp_path))
    assert not directory.exists()


def test_what_is_young_or_not_ours_stays(tmp_path: Path) -> None:
    young = private_directory(str(tmp_path))
    other = tmp_path / "ps-notes"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    aged(other)
    private_directory(str(tmp_path))
    assert young.exists()
    assert (other / "notes.txt").exists()


def test_a_directory_without_a_lock_in_which_somebody_listens_stays(tmp_path: Path) -> None:
    directory = tmp_path / "ps-x"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(directory / "a.sock"))
        alive.listen()
        aged(directory)
        private_directory(str(tmp_path))
        assert directory.exists()
    private_directory(str(tmp_path))
    assert not directory.exists()


def test_a_launchers_directory_that_was_cleared_away_is_made_again(tmp_path: Path) -> None:
    directory = private_directory(str(tmp_path))
    shutil.rmtree(directory)
    assert private_directory(str(directory)).parent == directory


def test_a_place_too_deep_for_sockets_is_not_taken_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * LONGEST)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    directory = private_directory(None)
    shutil.rmtree(directory)
    assert directory.parent == Path("/tmp")
    assert private_directory(str(deep)).parent == deep


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no directory for sockets in .*/gone: No such .*--runtime-dir"):
        private_directory(str(tmp_path / "gone"))


def test_a_place_of_ones_own_is_taken_where_the_system_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert private_directory(str(tmp_path)).exists()
    with pytest.raises(ConfigError, match=r"no directory for sockets: No usable .*--runtime-dir or PS_RUNTIME_DIR"):
        private_directory(None)


def test_removing_takes_all_along(tmp_path: Path) -> None:
    made = PrivateDirectory(str(tmp_path))
    (made.path / "server-0.state").write_text("a model")
    made.remove()
    made.remove()
    assert list(tmp_path.iterdir()) == []
