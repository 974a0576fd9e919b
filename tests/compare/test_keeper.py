"""Promises of the keeper: what was begun and not ended is ended with us, and nothing else is."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ps.compare.keeper import keep


def kills(lines: list[str]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    keep(lines, lambda group, signum: found.append((group, signum)), lambda seconds: found.append((0, 0)))
    return found


def test_who_is_left_gets_a_chance_and_is_killed_then() -> None:
    assert kills(["+7\n", "+9\n", "-7\n"]) == [(9, signal.SIGTERM), (0, 0), (9, signal.SIGKILL)]


def test_nobody_is_killed_who_has_ended() -> None:
    assert kills(["+7\n", "-7\n"]) == []


@pytest.mark.e2e
def test_a_run_ends_when_the_comparison_is_killed() -> None:
    code = (
        "import os, signal, subprocess, sys; from ps.compare.keeper import Keeper; k = Keeper();"
        "p = subprocess.Popen([sys.executable, '-c', 'print(1, flush=True); import time; time.sleep(60)'],"
        "start_new_session=True); k.begin(p.pid); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        parent.wait(20)
        assert parent.stdout is not None
        parent.stdout.read()  # its child has the pipe too: this returns when that one is gone
    assert parent.returncode == -signal.SIGKILL
