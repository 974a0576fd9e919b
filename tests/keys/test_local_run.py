"""Promises of the keys that a run on this host has for this user's other commands."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

import pytest

from ps.keys import local_run


def test_where_no_folder_can_be_written_to_no_run_is_found_and_nothing_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.delenv("PS_RUNTIME_DIR", raising=False)
    assert local_run.folder_of("tcp://127.0.0.1:1", "operator") is None


def test_a_run_is_found_at_whatever_address_of_this_host_alone_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    run = tmp_path / "ps-run"
    (run / local_run.KEYS / "operator").mkdir(parents=True)
    run.chmod(0o700)
    with (run / local_run.OWNED).open("w") as owned:
        fcntl.flock(owned, fcntl.LOCK_EX)
        local_run.announce("tcp://127.1.2.3:64999", run / local_run.KEYS)
        wanted = str(run / local_run.KEYS / "operator")
        for host in ("127.1.2.3", "127.0.0.1", "[::1]", "localhost"):
            assert local_run.folder_of(f"tcp://{host}:64999", "operator") == wanted
        for host in ("10.0.0.1", "a.name"):
            assert local_run.folder_of(f"tcp://{host}:64999", "operator") is None
    assert local_run.folder_of("tcp://127.1.2.3:64999", "operator") is None, "the run is over"
