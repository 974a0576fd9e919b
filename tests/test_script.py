"""Promises of Script: what python could not run is refused before anything is started, and nothing of it is run."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ps.errors import UsageError
from ps.script import Script


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with scripts of every kind, all of which would raise if they were run or imported."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "file.py",
        "bare/note.txt",
        "folder/__main__.py",
        "pack/__init__.py",
        "pack/sub.py",
        "main/__init__.py",
    ):
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise AssertionError('it was run')")
    Path("main/__main__.py").write_text("raise AssertionError('it was run')")
    for name, inside in (("app.pyz", "__main__.py"), ("other.zip", "train.py")):
        with zipfile.ZipFile(name, "w") as file:
            file.writestr(inside, "raise AssertionError")


@pytest.mark.parametrize("name", ["file.py", "folder", "app.pyz"])
def test_paths_that_python_could_run_pass(name: str) -> None:
    Script(name).check()


@pytest.mark.parametrize("name", ["file", "pack.sub", "main", "main.__main__", "folder", "json.tool", "timeit"])
def test_modules_that_python_could_run_pass(name: str) -> None:
    Script(name, is_module=True).check()


@pytest.mark.parametrize(
    ("name", "is_module", "text"),
    [
        ("gone.py", False, "there is no script gone.py; the directory is "),
        ("bare", False, "bare is a directory without a __main__.py"),
        ("other.zip", False, "other.zip is a zip without a __main__.py"),
        ("x" * 5000, False, "cannot read the script xxx"),
        ("a\0b", False, "cannot read the script"),
        ("gone", True, "there is no module gone; the directory is "),
        ("pack", True, "the module pack is a package without a __main__.py"),
        ("pack.gone", True, "there is no module pack.gone"),
        ("file.sub", True, "there is no module file.sub: file is no package"),
        ("file.py", True, "file is no package. file.py is a file: leave -m out, or say -m file"),
    ],
)
def test_what_python_could_not_run_is_refused(name: str, is_module: bool, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Script(name, is_module).check()


def test_a_script_is_written_as_on_pythons_command_line() -> None:
    assert Script("train.py").words == ["train.py"]
    assert Script("pack.sub", is_module=True).words == ["-m", "pack.sub"]
