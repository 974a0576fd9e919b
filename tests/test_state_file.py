"""Promises of the state file: what is kept is kept whole, what is not whole is refused, and a full disk is no end."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import ConfigError
from ps.state_file import StateFile

ARRAYS = {"w/0": np.arange(5, dtype=np.float32), "count/1": np.arange(3)}


def state_file_of(folder: Path) -> StateFile:
    return StateFile(str(folder / "deep" / "state"))


def test_what_was_kept_comes_back_under_its_name(tmp_path: Path) -> None:
    state_file = state_file_of(tmp_path)
    state_file.keep("model", {"version": 3, "names": ["a"]}, ARRAYS)
    state_file.keep("prepared", {"version": 4}, {})
    found = state_file_of(tmp_path).load("model")
    assert found is not None
    values, arrays = found
    assert values == {"version": 3, "names": ["a"]} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype and arrays[name].flags.writeable
    assert state_file_of(tmp_path).load("prepared") == ({"version": 4}, {})
    state_file.drop("prepared")
    state_file.drop("prepared")
    assert state_file.load("prepared") is None and state_file.load("model") is not None


def test_without_a_path_nothing_is_kept() -> None:
    state_file = StateFile(None)
    state_file.keep("model", {}, ARRAYS)
    state_file.drop("model")
    assert state_file.load("model") is None and not state_file.keeps and not state_file.durable


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_file_is_refused_by_its_name(tmp_path: Path, share: float) -> None:
    state_file = state_file_of(tmp_path)
    state_file.keep("model", {"version": 3}, {"w": np.arange(10_000.0)})
    [path] = (tmp_path / "deep").iterdir()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ConfigError, match=r"state\.model does not hold a state of ours"):
        state_file.load("model")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    state_file = state_file_of(tmp_path)
    state_file.keep("model", {"version": 3}, {"w": np.arange(10_000.0)})
    [path] = (tmp_path / "deep").iterdir()
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)
    with pytest.raises(ConfigError):
        state_file.load("model")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "s.model").open("wb") as file:
        np.savez(file, values=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError):
        StateFile(str(tmp_path / "s")).load("model")


def test_a_write_that_is_broken_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_file = state_file_of(tmp_path)
    state_file.keep("model", {"version": 3}, ARRAYS)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        state_file.keep("model", {"version": 4}, ARRAYS)
    found = state_file_of(tmp_path).load("model")
    assert found is not None and found[0] == {"version": 3}


def full(*args: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_once_and_what_was_kept_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state_file = state_file_of(tmp_path)
    state_file.keep("model", {"version": 3}, ARRAYS)
    assert state_file.durable
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(os, "fsync", full)
        for version in (4, 5):
            state_file.keep("model", {"version": version}, ARRAYS)
    assert [record.args[1] for record in caplog.records if record.args] == ["No space left on device"]  # type: ignore[index]
    assert not state_file.durable
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state.model"]
    found = state_file.load("model")
    assert found is not None and found[0] == {"version": 3}
    state_file.keep("model", {"version": 6}, ARRAYS)
    assert state_file.durable


def test_what_could_not_be_kept_is_not_made_good_by_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_file = state_file_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        state_file.keep("model", {"version": 4}, ARRAYS)
    state_file.keep("prepared", {"version": 4}, ARRAYS)
    assert not state_file.durable
    state_file.keep("model", {"version": 5}, ARRAYS)
    assert state_file.durable


def test_a_path_that_cannot_be_written_is_no_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state_file = StateFile(str(tmp_path / "file" / "state"))
    state_file.keep("model", {}, ARRAYS)
    assert not state_file.durable
    state_file.drop("model")


def test_what_could_not_be_kept_is_due_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_file = state_file_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        state_file.keep("model", {"version": 4}, ARRAYS)
        assert state_file.failing("model") and not state_file.due, "not at once: the disk is slow as well"
        patch.setattr("ps.state_file.RETRY", 0.0)
        assert state_file.due
    state_file.keep("model", {"version": 4}, ARRAYS)
    assert state_file.durable and not state_file.due and not state_file.failing("model")


def test_an_older_version_never_replaces_a_newer_one_whoever_writes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no locks: a process that was declared dead wakes up, and its successor has gone on."""
    dead, alive = state_file_of(tmp_path), state_file_of(tmp_path)
    dead.keep("model", {"version": 3}, ARRAYS)
    assert alive.load("model") is not None
    alive.keep("model", {"version": 4}, ARRAYS)
    with caplog.at_level(logging.ERROR):
        for version in (4, 5):
            dead.keep("model", {"version": version, "old": True}, ARRAYS)
        dead.drop("model")
    assert len(caplog.records) == 1 and "another process has written" in caplog.text
    monkeypatch.setattr("ps.state_file.RETRY", 0.0)
    assert not dead.durable and not dead.due
    assert state_file_of(tmp_path).glance("model") == {"version": 4}
    alive.keep("model", {"version": 5}, ARRAYS)
    assert alive.durable


def test_a_vault_that_is_open_is_nobody_elses(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    state_file = StateFile.open(path)
    with pytest.raises(ConfigError, match="in use"):
        StateFile.open(path)
    state_file.close()
    StateFile.open(path).close()
    StateFile.open(None).close()


def test_whatever_is_wrong_with_a_file_is_one_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "s.model"
    for values in (b"[]", b"{", b"\xff", b"[" * 5000):
        with path.open("wb") as file:
            np.savez(file, values=np.frombuffer(values, np.uint8))
        with pytest.raises(ConfigError, match=r"s\.model does not hold a state of ours"):
            StateFile(str(tmp_path / "s")).load("model")
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="does not hold a state of ours: Is a directory"):
        StateFile(str(tmp_path / "s")).load("model")
    with pytest.raises(ConfigError, match="File name too long"):
        StateFile(str(tmp_path / ("x" * 300))).glance("model")
