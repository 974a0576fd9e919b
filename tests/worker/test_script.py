"""run_script: a script meets what it would meet under python, and its end is known to a connection left open."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from ps.config import ProcessConfig
from ps.errors import UsageError
from ps.script import Script
from ps.worker import run_script


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what running a script changes."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "last_value", None, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def write(path: Path, text: str) -> Script:
    script = path / "train.py"
    script.write_text(text)
    return Script(str(script))


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
    with pytest.raises(UsageError, match=r"there is no script nowhere.py"):
        run_script(Script("nowhere.py"), [], ProcessConfig())


def tell(names: str = "") -> str:
    """Return code that fails unless it is run as python would, and ends with 7."""
    return f"import sys{names}\nassert __name__ == '__main__' and sys.argv[1:] == ['a', '-b'], sys.argv\nsys.exit(7)\n"


def test_a_module_is_run_as_by_python_m(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_of_mine"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "beside.py", "inner/__init__.py"):
        (package / name).touch()
    (package / "__main__.py").write_text("from . import beside\n" + tell(", neighbour_of_package"))
    (package / "inner" / "train.py").write_text("from .. import beside\nassert __spec__.name\n" + tell())
    (tmp_path / "neighbour_of_package.py").touch()
    monkeypatch.chdir(tmp_path)
    assert run_script(Script("package_of_mine", is_module=True), ["a", "-b"], ProcessConfig()) == 7
    assert run_script(Script("package_of_mine.inner.train", is_module=True), ["a", "-b"], ProcessConfig()) == 7


def test_a_folder_and_a_zip_are_run_as_python_runs_them(tmp_path: Path) -> None:
    for name in ("folder_of_mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"neighbour_in_{name}.py").touch()
        (tmp_path / name / "__main__.py").write_text(tell(f", neighbour_in_{name}"))
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as file:
        for path in (tmp_path / "other").glob("*.py"):
            file.write(path, path.name)
    for name in ("folder_of_mine", "app.pyz"):
        assert run_script(Script(str(tmp_path / name)), ["a", "-b"], ProcessConfig()) == 7


def test_what_lies_beside_our_own_program_is_not_found_by_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "only_beside_psctl.py").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "psctl")])
    sys.path.insert(0, str(tmp_path / "bin"))
    with pytest.raises(ModuleNotFoundError):
        run_script(write(tmp_path, "import only_beside_psctl"), [], ProcessConfig())
