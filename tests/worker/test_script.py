"""run_script: a script meets what it would meet under python, and its end is known to a connection left open."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ps.config import ProcessConfig
from ps.errors import UsageError
from ps.worker import run_script


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what running a script changes."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "last_value", None, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def write(path: Path, text: str) -> str:
    script = path / "train.py"
    script.write_text(text)
    return str(script)


def test_the_script_has_its_arguments_its_neighbours_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_train.py").write_text("value = 7")
    script = write(
        tmp_path,
        "import os, sys, neighbour_of_train\n"
        "ok = __name__ == '__main__' and sys.argv[1:] == ['--epochs', '3'] and neighbour_of_train.value == 7\n"
        "sys.exit(0 if ok and os.environ['PS_SCHEDULER'] == 'tcp://a:7070' else 9)\n",
    )
    assert run_script(script, ["--epochs", "3"], ProcessConfig(scheduler="tcp://a:7070")) == 0


@pytest.mark.parametrize(("text", "code"), [("", 0), ("exit()", 0), ("exit(0)", 0), ("exit(5)", 5), ("exit('why')", 1)])
def test_its_exit_code_is_returned(tmp_path: Path, text: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_script(write(tmp_path, f"import sys\n{text.replace('exit', 'sys.exit')}"), [], ProcessConfig()) == code
    assert capsys.readouterr().err == ("why\n" if "why" in text else "")
    assert bool(sys.last_value) == bool(code)


def test_its_exception_comes_through_and_is_remembered(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        run_script(write(tmp_path, "1 / 0"), [], ProcessConfig())
    assert sys.last_value is raised.value


def test_a_script_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"no script 'nowhere.py' here"):
        run_script("nowhere.py", [], ProcessConfig())
