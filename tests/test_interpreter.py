"""Our own processes are started whatever lies in the working directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ps import interpreter


@pytest.mark.parametrize("name", ["click", "json", "ps", "queue", "random", "secrets"])
def test_a_users_file_is_not_taken_for_a_module_of_the_standard_library_or_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('the user has a file of this name')")
    command = [*interpreter.command("ps.cli"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkout_that_is_not_installed_is_found_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(interpreter.__file__).parent.parent)
    monkeypatch.setattr(sys, "path", [root, "/elsewhere"])
    assert "-P" not in interpreter.command("ps.cli")
    monkeypatch.setattr(sys, "path", [root, "/elsewhere", root])
    assert "-P" in interpreter.command("ps.cli")
