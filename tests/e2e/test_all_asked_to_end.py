"""Promises of jobs whose processes are all asked to end at once, as batch systems and Kubernetes do."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.checkpoint.lives import Lives
from ps.checkpoint.place import place
from support.cluster import SCRIPTS, Cluster, Process, wait_until
from support.cut_short import whole

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

HALF_TAKEN = "the last checkpoint failed: of step 8 only a part was taken: whoever took it is gone;"
NO_TIME = "there was no time for a last checkpoint:"
"""Workers that hang in the step of the last checkpoint are seen to be gone before there is no more time, or after."""
SCRIPT = str(SCRIPTS / "resumed.py")
JOB = {"chunk_size": 4096, "optimizer": "sgd:lr=0.05", "compress": "topk:0.05", "heartbeat_timeout": 5}
FLAGS = [word for key, value in JOB.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def ends(text: str) -> set[str]:
    return set(re.findall(r"END (\d \d+ \w+)", text))


HALF = """
import sys, time
import numpy as np, ps
with ps.connect() as kv:
    p = kv.init({"a": np.zeros(2000, np.float32), "b": np.zeros(2000, np.float32)})
    while True:
        kv.ready("b", np.ones(2000, np.float32))
        if kv.clock == 7:
            print("HANGS", flush=True)
            time.sleep(600)
        kv.step({"a": np.ones(2000, np.float32)})
"""


def test_all_asked_at_once_leave_a_checkpoint_of_one_clock_with_what_workers_keep_and_go_on_from_it(
    start: Callable[..., Cluster], forked: Callable[..., Process], tmp_path: Path
) -> None:
    undisturbed = forked("run", "-s", 2, "-w", 2, *FLAGS, SCRIPT)
    assert undisturbed.wait(60) == 0 and len(ends(undisturbed.text)) == 2
    folder = tmp_path / "kept"
    kept = ("--checkpoint-dir", str(folder), "--state", str(tmp_path / "job.db"))  # as containers that are stopped
    first = start(*kept, servers=2, **JOB)
    for process in first.train(2, "--nap", "0.15", script=SCRIPT):
        process.wait_for("BEGIN")
    first.wait_clock(6)
    for process in first.processes:
        process.signal(signal.SIGTERM)
    assert [process.wait(30) for process in first.processes] == [143] * 5
    lives = Lives(place(str(folder)))
    newest = lives.newest(lives.life(1))
    assert newest is not None and 6 <= newest.step < 40 and not newest.ended
    assert all(newest.workers[rank]["file"] for rank in range(2)), newest.workers
    second = start(*kept, servers=2, **JOB)
    assert "A new one begins" in second.scheduler.text  # than that whose servers are gone
    workers = second.train(2, script=SCRIPT)
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert all(f"BEGIN {rank} {newest.step} {newest.step}" in worker.text for rank, worker in enumerate(workers))
    assert ends("\n".join(worker.text for worker in workers)) == ends(undisturbed.text)


def test_of_workers_that_hang_the_servers_part_is_kept_or_the_newest_whole_one_is_named(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    script = tmp_path / "half.py"
    script.write_text(HALF)
    cases = (
        (SCRIPT, ("--gate", f"7:{tmp_path / 'never'}"), "1000", "the newest whole checkpoint is step-000007"),
        (str(script), (), "6", f"({HALF_TAKEN}|{NO_TIME}) the newest whole checkpoint is step-000006"),
    )
    for number, (program, args, every, said) in enumerate(cases):
        folder = tmp_path / str(number)
        saving = ("--checkpoint-dir", str(folder), "--checkpoint-every", every, "--grace", "3")
        job = start(*saving, servers=2, joining=0, chunk_size=4096, optimizer="sgd:lr=0.1", heartbeat_timeout=5)
        for rank in range(2):
            job.start("server", "--grace", "3", "--rank", str(rank))
        for rank in range(2):
            job.start("worker", "--grace", "3", "--rank", str(rank), program, *args)
        for worker in job.processes[-2:]:
            worker.wait_for("GATE|HANGS")
        if every == "6":
            wait_until(lambda folder=folder: "step-000006" in whole(folder))
        began = time.monotonic()
        for process in job.processes:
            process.signal(signal.SIGTERM)
        assert [process.wait(10) for process in job.processes] == [143] * 5
        took = time.monotonic() - began
        assert took < 5 and re.search(said, job.scheduler.text), job.scheduler.text


def test_workers_that_are_all_asked_before_anybody_else_leave_a_checkpoint_with_what_they_keep(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    """As compose ends containers in order."""
    folder = tmp_path / "kept"
    job = start("--checkpoint-dir", str(folder), "--grace", "3", servers=1, joining=0, **JOB)
    job.start("server", "--grace", "3")
    workers = job.train(2, "--nap", "0.3", script=SCRIPT)
    for worker in workers:
        worker.wait_for("BEGIN")
    job.wait_clock(6)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.wait(30) for worker in workers] == [143, 143]
    lives = Lives(place(str(folder)))
    wait_until(lambda: lives.newest(lives.life(1)) is not None)
    newest = lives.newest(lives.life(1))
    assert newest is not None and newest.step >= 6 and not newest.ended
    assert all(newest.workers[rank]["file"] for rank in range(2)), "with what they keep"
