"""Promises of the keys that a run on this host has for this user's other commands."""

from __future__ import annotations

import tempfile

import pytest

from ps.keys import local_run


def test_where_no_folder_can_be_written_to_no_run_is_found_and_nothing_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.delenv("PS_RUNTIME_DIR", raising=False)
    assert local_run.folder_of("tcp://127.0.0.1:1", "operator") is None
