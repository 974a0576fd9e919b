"""Promises of scripts/tests: each test runs in one lane, what failed is named at the end, Ctrl-C ends all."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

import pytest

ROOT = Path(__file__).parents[2]
FINE = "def test_it() -> None:\n    pass\n"
E2E = "import pytest\n\n@pytest.mark.e2e\ndef test_with_processes() -> None:\n    assert {}\n"
PROJECT = """[tool.pytest.ini_options]
markers = ["e2e: starts processes"]
addopts = "-q --import-mode=importlib"
"""


@pytest.fixture(scope="module")
def script() -> Any:
    loader = importlib.machinery.SourceFileLoader("scripts_tests", str(ROOT / "scripts" / "tests"))
    spec = importlib.util.spec_from_loader("scripts_tests", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def is_marks(node: ast.stmt) -> TypeGuard[ast.Assign]:
    """Whether this names the marks of all tests of a file."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start the script in a project of these files."""

    def begin(*arguments: str, **files: str) -> subprocess.Popen[str]:
        (tmp_path / "scripts").mkdir()
        (tmp_path / "tests").mkdir()
        shutil.copy(ROOT / "scripts" / "tests", tmp_path / "scripts")
        shutil.copy(ROOT / "tests" / "support" / "at_once.py", tmp_path / "tests" / "conftest.py")
        (tmp_path / "pyproject.toml").write_text(PROJECT)
        for name, text in files.items():
            (tmp_path / "tests" / f"test_{name}.py").write_text(text)
        command = [sys.executable, tmp_path / "scripts" / "tests", *arguments]
        env = {**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # in half the time
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=tmp_path, env=env, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return]

    return begin


def test_every_file_is_in_a_lane_of_each_of_its_kinds_once(script: Any) -> None:
    found: dict[str, list[str]] = {"e2e": [], "not e2e": []}
    for row in script.lanes(2):
        for _, (_, kind, *files) in row:
            found[kind] += files
    every = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(set(found["not e2e"])) == len(found["not e2e"])
    assert len(set(found["e2e"])) == len(found["e2e"]) > 20
    assert sorted({*found["not e2e"], *found["e2e"]}) == every
    for name in every:
        marks = [node.value for node in ast.parse((ROOT / name).read_text()).body if is_marks(node)]
        of_all = any("pytest.mark.e2e" in ast.unparse(value) for value in marks)
        assert name in found["not e2e"] or of_all, name
    assert all("mark.e2e" not in path.read_text() for path in (ROOT / "tests").rglob("conftest.py"))


def test_shares_have_about_the_same_seconds(script: Any) -> None:
    seconds = {"a": 9.0, "b": 5.0, "c": 4.0, "d": 3.0, "e": 1.0}
    shares = script.shared_out(seconds, [0.0, 0.0])
    assert [sum(seconds[name] for name in names) for names in shares] == [12.0, 10.0]
    assert script.shared_out({"a": 1.0}, [0.0, 0.0]) == [["a"], []]
    assert script.shared_out(seconds, [0.0, 15.0]) == [["a", "b", "c", "e"], ["d"]], "who has other things to do first"


def test_rows_end_together(script: Any) -> None:
    table = json.loads((ROOT / "tests" / "seconds.json").read_text())
    kinds = {"e2e": "e2e", "not e2e": "in-process"}
    seconds = [
        sum(table.get(name, {}).get(kinds[marks], script.UNKNOWN) for _, (_, marks, *names) in row for name in names)
        for row in script.lanes(2)
    ]
    assert len(seconds) == 4 and max(seconds) < 1.2 * min(seconds)


def test_what_loads_large_libraries_is_in_one_share(script: Any) -> None:
    names = ("tests/pytorch/a.py", "tests/jax_arrays/a.py", "tests/pytorch/b.py")
    shares = script.shared_out({**dict.fromkeys(names, 2.0), "tests/a.py": 4.0, "tests/b.py": 3.0}, [0.0, 0.0])
    assert shares == [sorted(names), ["tests/a.py", "tests/b.py"]]


def test_all_pass_and_the_exit_code_says_so(start: Start) -> None:
    run = start(fine=FINE, both=E2E.format("True"))
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out
    assert "0 failed" in out and "e2e 1 | " in out


@pytest.mark.parametrize("kind", ["e2e", "in-process"])
def test_what_failed_is_named_at_the_end_whatever_else_goes_well(start: Start, kind: str) -> None:
    bad = E2E.format("False") if kind == "e2e" else FINE.replace("pass", "assert False")
    run = start(fine=FINE, bad=bad, other=E2E.format("True"))
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 1, out
    last = out.splitlines()[-3:]
    assert last[0].startswith(kind) and last[0].endswith("ended with 1")
    assert last[1].startswith("FAILED tests/test_bad.py::") and last[2].startswith("1 failed")


def test_what_failed_is_named_when_it_fails_and_counted_once(start: Start) -> None:
    run = start(bad=FINE.replace("pass", "assert False") + "\n\ndef test_other() -> None:\n    input_at_once\n")
    out, _ = run.communicate(timeout=60)
    lines = [line.partition(" | ")[2] for line in out.splitlines()]
    end = lines.index("=================================== FAILURES ===================================")
    named = [line for line in lines[:end] if line.startswith("failed: ")]
    assert named == ["failed: tests/test_bad.py::test_it", "failed: tests/test_bad.py::test_other"]
    assert out.splitlines()[-1].startswith("2 failed; ")


def test_arguments_go_to_every_pytest_and_nothing_to_run_is_not_a_failure(start: Start) -> None:
    run = start("-k", "test_it", fine=FINE, other=E2E.format("False"))
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_lanes_and_each_tidies_up(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    waiting = (
        "import pathlib, time, pytest\n\n{mark}def test_it():\n"
        "    try:\n        pathlib.Path('{name}').touch()\n        time.sleep(60)\n"
        "    finally:\n        pathlib.Path('{name}').rename('{name}.ended')\n"
    )
    run = start(one=waiting.format(name="one", mark=""), two=waiting.format(name="two", mark="@pytest.mark.e2e\n"))
    until = time.monotonic() + 30
    while not all((tmp_path / name).exists() for name in ("one", "two")):
        assert run.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    run.send_signal(number)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130, out
    assert all((tmp_path / f"{name}.ended").exists() for name in ("one", "two"))


def test_a_lane_in_which_a_test_took_the_interrupt_for_its_own_is_interrupted_again(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "AGAIN", 12.0)  # in which pytest tidies up, also on a busy machine
    monkeypatch.setattr(script, "ROOT", tmp_path)
    (tmp_path / "test_deaf.py").write_text(
        "import pathlib, time\n\ndef test_it():\n    pathlib.Path('begun').touch()\n    try:\n        time.sleep(30)\n"
        "    except KeyboardInterrupt:\n        time.sleep(30)\n"
    )
    lane = script.Lane("deaf", ["test_deaf.py"], tmp_path / "report.xml")
    until = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert lane.process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    lane.end()
    assert lane.wait() == 2, "pytest's own end after an interrupt, and not a kill"
