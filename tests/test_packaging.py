"""Promises of what is handed out: archives hold the whole package and nothing else; what is not whole says so."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import ps

ROOT = Path(__file__).resolve().parents[1]
LINKS = ("protocol", "server", "worker")
COMPILED = "ps/native/_kernels."
BESIDE = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"}
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def modules() -> set[str]:
    """What is in the package: modules, and the files that they read."""
    folders = [ROOT / "ps", *(ROOT / "ps" / link for link in LINKS)]
    found = {
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".css", ".js", ".typed")
    }
    return {str(path.relative_to(ROOT)) for path in found}


def loops() -> set[str]:
    """What compiled loops are made from."""
    return {str(path.relative_to(ROOT)) for path in (ROOT / "ps/native").iterdir() if path.suffix in (".c", ".h")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archives that a copy of this checkout makes, without a network."""
    pytest.importorskip("setuptools", minversion="77")
    copy, out = tmp_path_factory.mktemp("checkout") / "a", tmp_path_factory.mktemp("dist")
    kept = ("ps", *LINKS, "tests", "scripts", *BESIDE)
    rubbish = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", ".venv", ".git")

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {*rubbish(folder, names), *(set(names) - set(kept) if Path(folder) == ROOT else ())}

    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    for what in ("build_sdist", "build_wheel"):
        command = [sys.executable, "-c", BUILD, what, str(out)]
        made = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=100, check=False)
        assert made.returncode == 0, made.stderr
    return out


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_the_licence_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        about = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = Parser().parsestr(archive.read(f"{about}/METADATA").decode())
        scripts = archive.read(f"{about}/entry_points.txt").decode()
    own = {name for name in names if not name.startswith((f"{about}/", COMPILED))}
    assert own == modules()
    assert f"{about}/licenses/LICENSE" in names and "psctl = ps.cli:main" in scripts
    assert (metadata["License-Expression"], metadata["Version"]) == ("Apache-2.0", ps.__version__)
    assert metadata["Author"] == "paramserver developers" and "ssp" in metadata.get_payload()


@pytest.mark.slow
def test_a_source_archive_holds_what_a_wheel_is_built_from_and_no_tests(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers() if not member.isdir()}
    assert all(member.isfile() for member in members.values()), "links would be lost"
    made = {"PKG-INFO", "setup.cfg", *(name for name in members if name.startswith("paramserver.egg-info/"))}
    assert set(members) - made == modules() | loops() | BESIDE


@pytest.mark.parametrize("lost", ["a file with the link's text", "nothing"])
def test_where_links_were_lost_a_sentence_says_so(lost: str, tmp_path: Path) -> None:
    (tmp_path / "ps").mkdir()
    shutil.copy(ROOT / "ps/__init__.py", tmp_path / "ps")
    for link in LINKS if lost != "nothing" else ():
        (tmp_path / "ps" / link).write_text(f"../{link}")
    tried = subprocess.run(
        [sys.executable, "-c", "import ps"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    (*_, last) = tried.stderr.strip().splitlines()
    assert tried.returncode == 1
    assert last.startswith("ImportError: ") and "are symbolic links, which were lost on the way here" in last
