"""Script: what is trained with, as python takes it: a file, a folder or zip with a __main__.py, or a module (-m)."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ps.errors import UsageError


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
    try:
        path.stat()
    except FileNotFoundError:
        raise UsageError(f"there is no script {name}; the directory is {Path.cwd()}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the script {name[:200]}: {getattr(error, 'strerror', error)}") from None
    if path.is_dir() and not _has_main(path):
        raise UsageError(f"the script {name} is a directory without a __main__.py")
    if path.suffix != ".py" and path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if not {"__main__.py", "__main__.pyc"} & set(file.namelist()):
                raise UsageError(f"the script {name} is a zip without a __main__.py")


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
            raise UsageError(f"there is no module {name}: {found} is no package")
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
