"""Promises of parties: each counts whom it lists itself, as its folder is now, and nobody else off this host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.errors import ConfigError
from ps.keys import key_folder
from ps.keys.key_folder import FRESH, KeyFolder
from ps.protocol.parties import parties
from ps.secure.identity import signed

AWAY, HERE = "tcp://10.0.0.1:7070", "tcp://127.0.0.1:7070"


def test_without_keys_everybody_counts_on_loopback_and_elsewhere_it_is_refused() -> None:
    assert parties(None, HERE).clients(bytes(32))
    with pytest.raises(ConfigError, match="needs keys"):
        parties(None, AWAY)


def test_whom_a_folder_lists_counts_by_its_role_until_it_is_revoked(tmp_path: Path) -> None:
    for name, role in (("a", "client"), ("b", "client"), ("board", "helper"), ("stranger", "client")):
        key_folder.create(tmp_path / name, name, role)
    for name in ("b", "board"):
        key_folder.add(tmp_path / "a", name, tmp_path / name / "public.key")
    identity = {name: KeyFolder.read(tmp_path / name).own.public.identity for name in ("a", "b", "board", "stranger")}
    known = parties(KeyFolder.read(tmp_path / "a"), AWAY)
    assert known.signer.public == identity["a"]
    assert signed(known.signer.public, known.signer.sign(b"text"), b"text")
    assert known.clients(identity["b"]) and not known.clients(identity["stranger"])
    assert (
        not known.clients(identity["board"]) and known.helpers(identity["board"]) and not known.helpers(identity["b"])
    )
    key_folder.revoke(tmp_path / "a", "b")
    assert not known.clients(identity["b"])
    key_folder.add(tmp_path / "a", "stranger", tmp_path / "stranger" / "public.key")
    assert known.clients(identity["stranger"])


def test_keys_that_were_made_for_one_run_are_as_none_on_this_host(tmp_path: Path) -> None:
    key_folder.create(tmp_path / "run", "worker", "worker", signing=False)
    assert parties(KeyFolder.read(tmp_path / "run"), HERE).clients(bytes(32))
    with pytest.raises(ConfigError, match="needs keys"):
        parties(KeyFolder.read(tmp_path / "run"), AWAY)


def test_a_cohort_is_looked_up_in_a_folder_that_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        key_folder.create(tmp_path / str(number), f"c{number}", "client")
        if number:
            key_folder.add(tmp_path / "0", f"c{number}", tmp_path / str(number) / "public.key")
    known, read = parties(folder := KeyFolder.read(tmp_path / "0"), AWAY), KeyFolder.read
    reads: list[Path] = []
    monkeypatch.setattr(KeyFolder, "read", lambda path: reads.append(path) or read(path))
    monkeypatch.setattr("time.time_ns", lambda: folder.path.stat().st_ctime_ns + 10 * FRESH)  # a while has passed
    assert sum(known.clients(each.identity or b"") for each in folder.everybody for _ in range(100)) == 300
    assert len(reads) == 1
    key_folder.revoke(tmp_path / "0", "c1")
    reads.clear()
    assert sum(known.clients(each.identity or b"") for each in folder.everybody for _ in range(100)) == 200
    assert len(reads) == 1
