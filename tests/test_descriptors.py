"""Promises about open files: roles take what they may have, and say at once when that is too little."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ps.descriptors import LEAST

LIMITED = """
import resource, sys
soft, hard, *argv = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), int(hard)))
"""


def run(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED + code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("function", "left"), [("claim", (LEAST + 200, LEAST + 200)), ("demand", (LEAST - 100, LEAST + 200))]
)
def test_processes_of_ours_take_what_they_may_have_and_scripts_keep_what_they_had(
    function: str, left: tuple[int, int]
) -> None:
    code = f"from ps import descriptors; descriptors.{function}('x'); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    done = run(code, LEAST - 100, LEAST + 200)
    assert done.stdout.strip() == str(left), done.stderr


@pytest.mark.parametrize(
    "role",
    [
        ["scheduler", "--port", "0"],
        ["server", "--scheduler", "127.0.0.1:1"],
        ["worker", __file__],
        ["run", __file__],
    ],
    ids=lambda role: role[0],
)
def test_a_role_with_too_few_says_so_in_a_line_before_there_is_a_model(role: list[str]) -> None:
    done = run("from ps.cli import main; sys.exit(main(argv))", 24, 24, *role)
    assert done.returncode == 2, done.stderr
    assert "may open 24 files here" in done.stderr and "ulimit" in done.stderr
    assert len(done.stderr.splitlines()) == 1
