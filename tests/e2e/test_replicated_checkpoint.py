"""A checkpoint that is made after a standby took over is as whole as any: it is gone on from with the same bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cluster import SCRIPTS, Process
from support.cut_short import await_whole, digests, kill_all, whole
from support.nightly import protected

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]
Run = Callable[..., Process]
JOB = ("-s", 2, "-w", 2, "--optimizer", "adam:lr=0.01", "--clip-norm", 1, "--heartbeat-timeout", 5, "--grace", 6)
SCRIPT = (str(SCRIPTS / "resumed.py"), "--nap", "0.04", "--width", "2000", "--epochs", "12")


def test_what_a_successor_has_written_is_gone_on_from_with_the_bits_of_an_undisturbed_run(
    command: Run, forked: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    kept = ("--replicas", 1, "--checkpoint-dir", folder, "--checkpoint-every", 4, "--keep", 9)
    run = command("run", *JOB, *kept, *SCRIPT)
    pid = next(row["pid"] for row in protected(run) if row["rank"] == 0)
    os.kill(pid, signal.SIGKILL)
    run.wait_for("goes on as server 0")
    await_whole(folder, len(whole(folder)) + 2, run)  # the first may have been under way
    kill_all(run)
    again = forked("run", *JOB, *kept, *SCRIPT)
    assert again.wait(60) == 0, again.text
    begun = int(again.wait_for(r"BEGIN 0 (\d+)")[1])
    assert begun > 0, "it began anew"
    wanted = forked("run", *JOB, *SCRIPT)
    assert wanted.wait(60) == 0, wanted.text
    assert digests(again.text) == digests(wanted.text)
