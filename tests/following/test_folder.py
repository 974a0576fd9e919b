"""Promises of a folder of snapshots: whole files of one job, a link to the newest, no more than are to be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import ConfigError, UnsavedModel, UsageError
from ps.following import folder as module
from ps.following.folder import LATEST, SnapshotFolder
from ps.following.snapshot import Snapshot
from ps.weights_file import open_weights


def snapshot(clock: int, job: str = "a1") -> Snapshot:
    return Snapshot({"w": np.full(3, clock, np.float32)}, clock, "sync", job)


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if each.suffix != ".lock")


def first(path: Path) -> float:
    values = np.empty(3, np.float32)
    with open_weights(path) as file:
        file.read("w", values)
    return float(values[0])


def test_each_clock_has_its_file_and_the_link_leads_to_the_newest(tmp_path: Path) -> None:
    folder = SnapshotFolder(str(tmp_path / "a" / "b"))
    folder.claim("a1")
    for clock in (5, 120):
        folder.write(snapshot(clock))
    assert names(folder.path) == [LATEST, "step-00000005.safetensors", "step-00000120.safetensors"]
    assert (folder.path / LATEST).readlink() == Path("step-00000120.safetensors")
    assert first(folder.path / LATEST) == 120
    with open_weights(folder.path / LATEST) as file:
        assert {"job": "a1", "clock": "120", "mode": "sync"}.items() <= file.about.items()
    folder.close()


def test_of_those_that_are_to_be_kept_the_oldest_go_also_those_of_the_follower_before(tmp_path: Path) -> None:
    for clocks in ((9, 10), (100, 2_000_000_000)):
        folder = SnapshotFolder(str(tmp_path), keep=2)
        folder.claim("a1")
        for clock in clocks:
            folder.write(snapshot(clock))
        folder.close()
    (tmp_path / "mine.safetensors").touch()
    assert names(tmp_path) == [LATEST, "mine.safetensors", "step-00000100.safetensors", "step-2000000000.safetensors"]


@pytest.mark.parametrize(("other", "words"), [("b2", "is a snapshot of job b2, not of job a1"), ("", "of no job")])
def test_another_jobs_snapshots_are_not_written_over(tmp_path: Path, other: str, words: str) -> None:
    folder = SnapshotFolder(str(tmp_path))
    folder.write(snapshot(5, other))
    with pytest.raises(UsageError, match=words):
        folder.claim("a1")
    assert first(tmp_path / LATEST) == 5
    folder.close()


def test_what_a_killed_follower_was_writing_goes(tmp_path: Path) -> None:
    folder = SnapshotFolder(str(tmp_path))
    for name in (".step-00000007.safetensors.0123abcd", ".mine"):
        (tmp_path / name).touch()
    folder.claim("a1")
    assert names(tmp_path) == [".mine"]
    folder.close()


def test_two_followers_do_not_write_to_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps.lock.PATIENCE", 0.0)
    folder = SnapshotFolder(str(tmp_path))
    with pytest.raises(ConfigError, match=r"is in use by .* give each its own --out"):
        SnapshotFolder(str(tmp_path))
    folder.close()
    SnapshotFolder(str(tmp_path)).close()


@pytest.mark.parametrize("place", ["file", "file/below", "\0", "/proc/none"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write snapshots to"):
        SnapshotFolder(place if place.startswith(("/", "\0")) else str(tmp_path / place))


def test_a_snapshot_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SnapshotFolder(str(tmp_path))
    folder.write(snapshot(5))

    def full(*_: Any) -> None:
        raise UnsavedModel("no space left on the device")

    monkeypatch.setattr(module, "write_weights", full)
    with pytest.raises(UnsavedModel):
        folder.write(snapshot(6))
    assert names(tmp_path) == [LATEST, "step-00000005.safetensors"]
    folder.close()
