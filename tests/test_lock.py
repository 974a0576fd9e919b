"""Promises of the lock: one process has a file, until it ends however it ends, and what it forks has nothing of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ps.errors import ConfigError
from ps.lock import Lock

HOLD = "import sys, pathlib, ps.lock; lock = ps.lock.Lock(pathlib.Path(sys.argv[1])); print('has it', flush=True); {}"


def holder(path: Path, then: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD.format(then), str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "has it\n"
    return process


def test_a_second_is_refused_by_name_until_the_first_gives_it_up(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "deep" / "state")
    who = re.escape(f"state is in use by process {os.getpid()} on ")
    for _ in range(2):
        with pytest.raises(ConfigError, match=who):
            Lock(tmp_path / "deep" / "state")
    lock.release()
    lock.release()
    assert not list((tmp_path / "deep").iterdir())
    Lock(tmp_path / "deep" / "state").release()


def test_it_dies_with_its_process(tmp_path: Path) -> None:
    process = holder(tmp_path / "state", "sys.stdin.read()")
    with pytest.raises(ConfigError, match=f"in use by process {process.pid} "):
        Lock(tmp_path / "state")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    Lock(tmp_path / "state").release()


def test_children_that_a_script_forks_or_starts_do_not_keep_it(tmp_path: Path) -> None:
    forked = "import os, subprocess; subprocess.Popen(['cat']); os.fork() and os._exit(0); sys.stdin.read()"
    process = holder(tmp_path / "state", forked)
    try:
        process.wait(20)
        Lock(tmp_path / "state").release()
    finally:
        process.communicate(timeout=20)  # both children end with their input


def test_a_folder_that_cannot_be_written_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "state", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="cannot keep a state in "):
            Lock(path)


def test_a_full_disk_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    Lock(tmp_path / "state").release()
