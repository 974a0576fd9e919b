"""Promises of a victim: a process is harmed only where it is certain that it is the member's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ps.chaos.victim import Victim
from ps.errors import ConfigError
from ps.protocol import pid

REALM = pid.realm()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    code = "import time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def row(process: int) -> dict[str, Any]:
    born = pid._stat(process)
    assert born is not None
    return {"rank": 3, "pid": process, "mark": f"{REALM} {born[1]}"}


def test_a_member_that_is_who_it_says_is_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    victim = Victim("worker", row(sleeper.pid), REALM)
    assert victim.signal(signal.SIGKILL) == "" and sleeper.wait(10) == -signal.SIGKILL
    assert victim.signal(signal.SIGKILL) != "", "it has gone, and nobody else has its place"
    victim.close()


@pytest.mark.parametrize("change", ["mark", "boot", "none"])
def test_another_process_with_the_same_id_is_left_alone(sleeper: subprocess.Popen[bytes], change: str) -> None:
    marks = {"mark": f"{REALM} 1", "boot": row(sleeper.pid)["mark"].replace(REALM[:8], "00000000"), "none": ""}
    with pytest.raises(ConfigError, match="not on this host"):
        Victim("worker", {**row(sleeper.pid), "mark": marks[change]}, REALM)
    assert sleeper.poll() is None


@pytest.mark.parametrize("number", [0, 1, -5, 1 << 40])
def test_what_no_member_can_be_is_left_alone(number: int) -> None:
    with pytest.raises((ConfigError, OverflowError)):
        Victim("worker", {"pid": number, "mark": f"{REALM} 1"}, REALM)


def test_it_never_harms_itself_or_who_started_it() -> None:
    for process in (os.getpid(), os.getppid()):
        with pytest.raises(ConfigError, match="not its own"):
            Victim("worker", row(process), REALM)


def test_a_process_that_has_ended_is_no_victim(sleeper: subprocess.Popen[bytes]) -> None:
    told = row(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ConfigError, match="has ended"):
        Victim("worker", told, REALM)
