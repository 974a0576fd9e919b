"""Promises of the first process of a container: psctl hears what it is asked, reaps orphans, and tells of shells."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ps.launch.first_process import doubts, stand_before

TERM = 1 << (signal.SIGTERM - 1)
ALONE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def processes(folder: Path, *rows: tuple[int, int, str, int]) -> Path:
    """Return a /proc with these: a process's number, its parent's, its name, and the signals it catches."""
    for pid, parent, name, caught in rows:
        (folder / str(pid)).mkdir(exist_ok=True)
        (folder / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 1 1 0\n")
        (folder / str(pid) / "status").write_text(f"Name:\t{name}\nSigBlk:\t{0:016x}\nSigCgt:\t{caught:016x}\n")
    return folder


def test_a_shell_as_the_first_process_is_told(tmp_path: Path) -> None:
    proc = processes(tmp_path, (1, 0, "sh", 0), (7, 1, "psctl", TERM))
    assert doubts(proc, 7).startswith("sh stands between this process and whoever ends its container")


def test_a_shell_that_an_init_has_started_is_told(tmp_path: Path) -> None:
    proc = processes(tmp_path, (1, 0, "tini", 0), (6, 1, "bash", 0), (7, 6, "psctl", TERM))
    assert doubts(proc, 7).startswith("bash stands between")
    proc = processes(tmp_path, (1, 0, "tini", 0), (5, 1, "sh", 0), (6, 5, "bash", TERM), (7, 6, "psctl", TERM))
    assert doubts(proc, 7).startswith("sh stands between")


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 0, "systemd", TERM), (6, 1, "bash", 0), (7, 6, "psctl", 0)],  # it asks all processes of a unit
        [(1, 0, "tini", 0), (7, 1, "psctl", 0)],
        [(1, 0, "bash", TERM), (7, 1, "psctl", 0)],  # with a trap
        [(1, 0, "docker-init", 0), (6, 1, "sh", TERM), (7, 6, "psctl", 0)],
        [(1, 0, "tini", 0), (5, 1, "bash", 0), (6, 5, "python3", 0), (7, 6, "psctl", 0)],
        [(1, 0, "a) (b", 0), (7, 1, "psctl", 0)],
        [(7, 0, "psctl", 0)],  # of another container's first process nothing is to be known
        [(7, 9, "psctl", 0)],
    ],
)
def test_where_the_asking_arrives_or_nothing_is_known_nothing_is_told(
    rows: list[tuple[int, int, str, int]], tmp_path: Path
) -> None:
    assert doubts(processes(tmp_path, *rows), 7) == ""


def test_anywhere_else_a_process_is_what_it_is_for() -> None:
    assert os.getpid() != 1 and stand_before() is None


def alone(*words: str, **env: str) -> subprocess.Popen[str]:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, for processes that see only themselves")
    command = [*ALONE, *words]
    return subprocess.Popen(
        command, env={**os.environ, **env}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    return out + err


@pytest.mark.e2e
def test_as_the_first_process_psctl_ends_when_it_is_asked_to() -> None:
    process = alone(sys.executable, "-m", "ps.cli", "scheduler", "--port", "0")
    assert process.stderr is not None and "scheduler at tcp://" in process.stderr.readline()
    inner = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(inner, signal.SIGTERM)
    said(process)
    assert process.returncode == 143


@pytest.mark.e2e
def test_its_exit_code_is_that_of_the_command() -> None:
    process = alone(sys.executable, "-m", "ps.cli", "scheduler", "--servers", "-1")
    assert "servers = " in said(process) and process.returncode == 2


@pytest.mark.e2e
def test_as_the_first_process_it_reaps_those_whom_nobody_waits_for(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, subprocess, time\n"
        "subprocess.run(['sh', '-c', 'sleep 0.1 &'])\n"  # its parent ends first
        "time.sleep(1)\n"
        "pids = [pid for pid in os.listdir('/proc') if pid.isdecimal()]\n"
        "states = [open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0] for pid in pids]\n"
        "print('ZOMBIES', states.count('Z'), os.getpid() != 1, flush=True)\n"
    )
    process = alone(sys.executable, "-m", "ps.cli", "worker", "--scheduler", "127.0.0.1:1", str(script))
    assert "ZOMBIES 0 True" in said(process) and process.returncode == 0


@pytest.mark.e2e
def test_behind_a_shell_a_line_says_that_it_will_not_be_asked(tmp_path: Path) -> None:
    process = alone("sh", "-c", f"{sys.executable} -m ps.cli worker --scheduler 127.0.0.1:1 {tmp_path}/none.py; true")
    began = time.monotonic()
    told = said(process)
    assert time.monotonic() - began < 60 and "there is no script" in told
    (tmp_path / "none.py").write_text("")
    process = alone("sh", "-c", f"{sys.executable} -m ps.cli worker --scheduler 127.0.0.1:1 {tmp_path}/none.py; true")
    assert "sh stands between this process and whoever ends its container" in said(process)
