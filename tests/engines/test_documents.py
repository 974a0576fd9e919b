"""Promises of the documents about engines: what they say to type renders what the engine takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ps.cli import main
from support.documents import sessions

LINES = sorted({line for each in sessions() for line in each.lines if re.match(r"psctl render .*\.py", line)})


def test_there_are_some() -> None:
    assert len(LINES) >= 5


@pytest.mark.parametrize("line", LINES)
def test_it_renders(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out or any(tmp_path.rglob("*.yaml"))
