"""Script: what is trained with, as python takes it: a file, a folder or zip with a __main__.py, or a module (-m)."""

from __future__ import annotations

import importlib.util
import stat
import sys
import zipfile
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.regular_file import blaming, open_regular, shown

_DUNDER_MAIN = {"__main__.py", "__main__.pyc"}


@dataclass(frozen=True, slots=True)
class Script:
    """The name of a file, a folder or a zip, or of a module."""

    name: str
    is_module: bool = False

    @property
    def words(self) -> list[str]:
        """What follows ``python`` on a command line."""
        return ["-m", self.name] if self.is_module else [self.name]

    @property
    def flags(self) -> list[str]:
        """What precedes its name on a command line of ours."""
        return ["-m"] if self.is_module else []

    def check(self) -> None:
        """Raise UsageError when there is no such script. Runs nothing of it."""
        if self.is_module:
            _check_module(self.name)
        else:
            _check_path(self.name)


def _check_path(name: str) -> None:
    path = Path(name)
    if not name:
        raise UsageError("the script's name is empty")
    with blaming(path, "script"):
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
            names = _DUNDER_MAIN if is_folder else _names_in_zip(path)
        except FileNotFoundError:
            raise UsageError(f"there is no script {shown(name)}; the directory is {Path.cwd()}") from None
        if is_folder and not _has_main(path):
            raise UsageError(f"the script {name} is a directory without a __main__.py")
        if not names & _DUNDER_MAIN:
            raise UsageError(f"the script {name} is a zip without a __main__.py")


def _names_in_zip(path: Path) -> set[str]:
    """Return what a zip holds; for a file of Python, as if it were one to be run."""
    with open_regular(path) as file:
        if path.suffix == ".py" or not zipfile.is_zipfile(file):
            return _DUNDER_MAIN
        return {*zipfile.ZipFile(file).namelist()}


def _has_main(folder: Path) -> bool:
    return any((folder / f"__main__.{suffix}").exists() for suffix in ("py", "pyc"))


def _check_module(name: str) -> None:
    """Follow a dotted name from package to package, as far as that can be done without importing them."""
    spec: ModuleSpec | None = None
    found = ""
    for part in [*name.split("."), "__main__"]:
        is_main = part == "__main__" and found == name
        if spec is not None and spec.submodule_search_locations is None:
            if is_main:
                return
            file = name if Path(name).is_file() else ""
            advice = f". {shown(file)} is a file: leave -m out, or say -m {found}" if file else ""
            raise UsageError(f"there is no module {name}: {found} is no package{advice}")
        whole = f"{found}.{part}" if found else part
        if spec is None:
            spec = PathFinder.find_spec(whole, [str(Path.cwd()), *sys.path]) or _by_others(whole)
        else:
            spec = PathFinder.find_spec(whole, list(spec.submodule_search_locations or ()))
        if spec is None and is_main:
            raise UsageError(f"the module {name} is a package without a __main__.py")
        if spec is None:
            raise UsageError(f"there is no module {whole}; the directory is {Path.cwd()}")
        found = whole


def _by_others(name: str) -> ModuleSpec | None:
    """Return what is found neither here nor in the folders of ``sys.path``: built in, or by an installer's hook."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
