"""An error of ours that a script does not catch is one line and its exit code; all others are Python's affair."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = "from ps import errors; from ps.worker.uncaught import report_in_one_line; import atexit, sys\n"


def run(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BEGIN + text], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("kind", "code", "line"), [("JobEnded", 0, "-c: a b"), ("PeerLost", 4, "-c: error: a b")])
def test_an_error_of_ours_is_one_line_and_its_code(kind: str, code: int, line: str) -> None:
    look = "atexit.register(lambda: print(type(sys.last_value).__name__))"
    end = run(f"report_in_one_line(); {look}; raise errors.{kind}('a\\n b')")
    assert (end.returncode, end.stderr.strip()) == (code, line)
    assert end.stdout.strip() == kind, "and whoever looks at the end of the process still sees what ended it"


def test_any_other_error_has_its_traceback() -> None:
    end = run("report_in_one_line(); raise ValueError('x')")
    assert end.returncode == 1
    assert end.stderr.startswith("Traceback") and end.stderr.rstrip().endswith("ValueError: x")


def test_a_script_with_a_hook_of_its_own_keeps_it() -> None:
    end = run("sys.excepthook = lambda *e: print('mine'); report_in_one_line(); raise errors.PeerLost('x')")
    assert (end.returncode, end.stdout.strip()) == (1, "mine")
