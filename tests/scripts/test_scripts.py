"""The shell scripts, run in a folder of their own with stand-ins for Python and the tools: nothing is installed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands in for every python: notes what it was called with, and makes a .venv that holds itself.
PYTHON = """\
#!/bin/sh
echo "$*" >>"$LOG"
if [ "$2" = venv ]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python; fi
"""
TOOL = '#!/bin/sh\necho "${0##*/} $*" >>"$LOG"\ncase " $FAILING " in *" ${0##*/} "*) exit 1 ;; esac\n'

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a path with spaces"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("bench", "__pycache__"))
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copytree(ROOT / "ps/native", folder / "ps/native", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def run(checkout: Path, tmp_path: Path) -> Run:
    """Run a script of the checkout from elsewhere, with programs made for the test before the system's."""
    programs = tmp_path / "bin"
    programs.mkdir()

    def call(script: str, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        path = f"{programs}:{os.defpath}"
        env = {"PATH": path, "HOME": str(tmp_path), "LOG": str(tmp_path / "log"), **env}
        command = [str(checkout / script), *args]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)

    return call


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def log(tmp_path: Path) -> str:
    path = tmp_path / "log"
    text = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


def shell_scripts() -> list[Path]:
    tracked = [*(ROOT / "scripts").rglob("*"), *(ROOT / ".ci").rglob("*")]
    found = [path for path in tracked if path.is_file() and path.suffix not in (".pyc", ".md")]
    return [path for path in found if path.read_bytes()[:2] == b"#!" and b"sh\n" in path.read_bytes()[:40]]


def test_shell_scripts_are_executable_and_shorter_than_20_lines() -> None:
    names = {path.name for path in shell_scripts()}
    assert {"quickstart", "check", "install", "find_python", "run"} <= names
    for path in shell_scripts():
        assert os.access(path, os.X_OK), path
        assert len(path.read_text().splitlines()) < 20, path


def test_a_python_that_only_seems_to_be_there_is_passed_over(run: Run, tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.13", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    good = program(tmp_path / "bin/python3.12", "#!/bin/sh\n")
    found = run("scripts/find_python")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{good}\n", "")


def test_without_a_python_there_is_one_line_that_says_what_to_do(run: Run, tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.10", "#!/bin/sh\nexit 1\n")
    found = run("scripts/quickstart", PYTHON="python3.10")
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "no Python 3.11 or newer" in found.stderr
    assert "python3.10" in found.stderr


def test_install_makes_the_environment_once_and_again_when_the_requirements_change(
    run: Run, checkout: Path, tmp_path: Path
) -> None:
    python = str(program(tmp_path / "bin/stand-in", PYTHON))
    first = run("scripts/install", "dev", PYTHON=python)
    assert first.returncode == 0, first.stderr
    assert "-m venv --clear .venv" in (done := log(tmp_path))
    assert "--editable .[dev]" in done

    assert run("scripts/install", "dev", PYTHON=python).returncode == 0
    assert log(tmp_path) == ""

    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert run("scripts/install", "dev", PYTHON=python).returncode == 0
    assert "--editable .[dev]" in (done := log(tmp_path))
    assert "venv" not in done


def test_an_installation_that_failed_is_tried_again(run: Run, tmp_path: Path) -> None:
    broken = program(tmp_path / "bin/stand-in", PYTHON + '[ "$3" != install ]\n')
    assert run("scripts/install", "dev", PYTHON=str(broken)).returncode != 0
    log(tmp_path)
    assert run("scripts/install", "dev", PYTHON=str(broken)).returncode != 0
    assert "--editable .[dev]" in log(tmp_path)


def test_check_runs_every_step_and_names_those_that_failed(run: Run, checkout: Path, tmp_path: Path) -> None:
    python = str(program(tmp_path / "bin/stand-in", PYTHON))
    run("scripts/install", "dev", PYTHON=python)
    for name in ("ruff", "mypy", "lint-imports", "python"):
        program(checkout / ".venv/bin" / name, TOOL)
    log(tmp_path)

    good = run("scripts/check", "-k", "ssp")
    assert good.returncode == 0
    steps = log(tmp_path).splitlines()
    checks = ["ruff format --check .", "ruff check .", "mypy ", "lint-imports "]
    assert sorted(steps) == sorted([*checks, "python scripts/tests -k ssp"])
    assert [step for step in steps if step in checks] == checks

    bad = run(".ci/run", FAILING="mypy python")
    assert bad.returncode == 1
    assert bad.stderr.strip() == "failed: mypy; tests"
    assert len(log(tmp_path).splitlines()) == 5
