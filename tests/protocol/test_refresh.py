"""Promises of Security.refresh: what takes the place of a folder of keys is read, whatever its times are."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ps.keys import key_folder
from ps.protocol import security
from ps.protocol.security import Security
from support.keyed import Ring

LONG_AGO = 1_600_000_000


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ring:
    monkeypatch.setattr(security, "LOOK", 0.0)
    return Ring(tmp_path / "keys", worker="worker", other="worker")


def names(found: Security) -> set[str]:
    assert found.folder is not None
    return set(found.folder.listed)


def test_a_link_that_is_set_to_another_folder_of_the_same_age_is_followed(ring: Ring, tmp_path: Path) -> None:
    """As who mounts or unpacks them does it: all at once, with times as they were."""
    first, second, link = Path(ring["scheduler"]), tmp_path / "second", tmp_path / "link"
    shutil.copytree(first, second)
    key_folder.revoke(second, "other")
    for folder in (first, second):
        os.utime(folder, (LONG_AGO, LONG_AGO))
    link.symlink_to(first)
    found = Security(ring_folder := key_folder.KeyFolder.read(link))
    while found.refresh() or time.time_ns() - found._seen[0] <= security.FRESH:
        time.sleep(0.05)  # what is new is read again anyway
    assert names(found) == {"worker", "other"} == set(ring_folder.listed)
    before = key_folder.KeyFolder.read(link)
    (tmp_path / "next").symlink_to(second)
    (tmp_path / "next").replace(link)
    assert found.refresh() and names(found) == {"worker"}
    assert found.folder is not None and len(found.folder.revoked) == 1
    late = Security(before)
    assert late.refresh() and names(late) == {"worker"}, "it was replaced between reading and looking"


def test_between_the_two_renames_of_a_replacement_the_list_stays_as_it_was(ring: Ring, tmp_path: Path) -> None:
    folder, away = Path(ring["scheduler"]), tmp_path / "away"
    found = Security(key_folder.KeyFolder.read(folder))
    folder.rename(away)
    assert not found.refresh() and names(found) == {"worker", "other"}
    key_folder.revoke(away, "other")
    away.rename(folder)
    assert found.refresh() and names(found) == {"worker"}
