"""Promises of the watchdog: what was begun and not ended is ended with us, and nothing else is."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ps.compare.watchdog import keep


def kills(lines: list[str], lives: int = 10**6) -> tuple[list[tuple[int, int]], float]:
    """Return the signals that groups were sent, and the seconds waited; after ``lives`` looks they are gone."""
    found: list[tuple[int, int]] = []
    rested: list[float] = []

    def kill(group: int, signum: int) -> None:
        if len(rested) >= lives:
            raise ProcessLookupError
        if signum:
            found.append((group, signum))

    keep(lines, kill, rested.append, 3.0)
    return found, sum(rested)


def test_who_is_left_gets_its_grace_and_is_killed_then() -> None:
    found, waited = kills(["+7\n", "+9\n", "-7\n"])
    assert found == [(9, signal.SIGTERM), (9, signal.SIGKILL)]
    assert waited == pytest.approx(3.0)


def test_nobody_is_waited_for_who_has_ended() -> None:
    found, waited = kills(["+9\n"], lives=3)
    assert found == [(9, signal.SIGTERM)]
    assert waited < 1.0


def test_nobody_is_killed_who_has_ended() -> None:
    assert kills(["+7\n", "-7\n"]) == ([], 0)


@pytest.mark.e2e
def test_a_run_ends_when_the_comparison_is_killed() -> None:
    code = (
        "import os, signal, subprocess, sys; from ps.compare.watchdog import Watchdog; k = Watchdog(1.0);"
        "p = subprocess.Popen([sys.executable, '-c', 'print(1, flush=True); import time; time.sleep(60)'],"
        "start_new_session=True); k.begin(p.pid); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        parent.wait(20)
        assert parent.stdout is not None
        parent.stdout.read()  # its child has the pipe too: this returns when that one is gone
    assert parent.returncode == -signal.SIGKILL
