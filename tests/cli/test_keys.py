"""Promises of psctl keys: what is shown is enough to compare and to go on, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.cli import main
from ps.keys.key_folder import KeyFolder


def test_keys_are_made_added_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = str(tmp_path / "s"), str(tmp_path / "c")
    assert main(["keys", "new", ours, "--name", "scheduler", "--role", "scheduler"]) == 0
    assert main(["keys", "new", theirs, "--name", "hospital", "--role", "client"]) == 0
    own = KeyFolder.read(theirs).own
    assert own.public.fingerprint in capsys.readouterr().out
    assert main(["keys", "add", "hospital-a", f"{theirs}/public.key", "--keys", ours]) == 0
    assert main(["keys", "list", "--keys", ours]) == 0
    out = capsys.readouterr().out
    assert out.count(own.public.fingerprint) == 2
    assert "hospital-a" in out
    assert main(["keys", "revoke", "hospital-a", "--keys", ours]) == 0
    assert "revoked" in capsys.readouterr().out
    assert main(["keys", "revoke", "hospital-a", "--keys", ours]) == 2
    assert "lists no hospital-a" in capsys.readouterr().err


def test_init_says_that_whoever_ran_it_can_speak_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "init", str(tmp_path / "k"), "-s", "1", "-w", "2", "--clients"]) == 0
    out = capsys.readouterr().out
    assert "can speak for all of them" in out
    assert KeyFolder.read(tmp_path / "k" / "client-1").own.public.role == "client"
    assert KeyFolder.read(tmp_path / "k" / "client-1").own.curve.hex() not in out


def test_the_folder_may_be_named_by_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["keys", "new", str(tmp_path / "s"), "--name", "s", "--role", "scheduler"])
    monkeypatch.setenv("PS_KEYS", str(tmp_path / "s"))
    assert main(["keys", "list"]) == 0
    assert "(own)" in capsys.readouterr().out
