"""Promises of jobs whose workers die and come, and that are killed as a whole: which examples have contributed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.test_checkpoint import SHORT, kill_all, whole
from support.cluster import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

SCRIPT = """
import os, sys, time
from pathlib import Path
import numpy as np, ps

with ps.connect() as kv:
    kv.init({"w": np.zeros(8, np.float32)})
    print("BEGIN", kv.rank, kv.clock, flush=True)
    for numbers in kv.batches(np.arange(240), 8, epochs=2):
        time.sleep(float(sys.argv[2]) * (1 + kv.rank))
        with Path(f"{sys.argv[1]}.{kv.rank}").open("a") as file:  # servers may count it before this worker hears so
            file.write(f"{kv.clock + 1} {os.getpid()} {' '.join(map(str, numbers.tolist()))}\\n")
        kv.step({"w": np.ones(8, np.float32)})
"""
Run = Callable[..., Process]


def await_until(there: Callable[[], object], run: Process) -> None:
    deadline = time.monotonic() + 40
    while not there():
        assert run.code is None and time.monotonic() < deadline, run.text
        time.sleep(0.02)


def lines(used: Path) -> list[tuple[int, int, int, list[int]]]:
    """Return (rank, clock, pid, examples) of each step."""
    found = []
    for path in used.parent.glob(f"{used.name}.*"):
        for line in path.read_text().splitlines():
            clock, pid, *numbers = map(int, line.split())
            found.append((int(path.suffix[1:]), clock, pid, numbers))
    return found


@pytest.mark.parametrize(("mode", "sizes"), [("sync", (2, 3, 2, 4)), ("async", (2, 2, 2, 2)), ("ssp", (2, 2, 2, 2))])
def test_each_example_contributes_once_though_all_is_killed_three_times_and_other_workers_go_on(
    forked: Run, tmp_path: Path, mode: str, sizes: tuple[int, ...]
) -> None:
    script, folder, used = tmp_path / "reads.py", tmp_path / "kept", tmp_path / "used"
    script.write_text(SCRIPT)
    counted: Counter[int] = Counter()
    before: list[tuple[int, int, int, list[int]]] = []
    for life, workers in enumerate(sizes):
        last, known = life == len(sizes) - 1, set(whole(folder))
        where = ("--resume" if life else "--checkpoint-dir", folder)  # which allows of another number of workers
        flags = ("run", "-w", workers, *SHORT, "--mode", mode, *where, "--checkpoint-every", 3)
        run = forked(*flags, script, used, "0.04")
        if last:
            assert run.wait(60) == 0, run.text
        else:
            await_until(lambda known=known: set(whole(folder)) - known, run)
            kill_all(run)
        began = {int(rank): int(clock) for rank, clock in re.findall(r"BEGIN (\d+) (\d+)", run.text)}
        for rank, clock, _, numbers in before:  # what the checkpoint has of the life before
            if clock <= began.get(rank, began[0]):
                counted.update(numbers)
        before = lines(used)
        for path in tmp_path.glob("used.*"):
            path.unlink()
    for *_, numbers in before:
        counted.update(numbers)
    assert counted == Counter(dict.fromkeys(range(240), 2))


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_what_a_killed_worker_had_of_the_epoch_is_used_by_others_and_once_is_what_they_had(
    forked: Run, tmp_path: Path, mode: str
) -> None:
    script, used = tmp_path / "reads.py", tmp_path / "used"
    script.write_text(SCRIPT)
    run = forked("run", "-w", 3, "--mode", mode, "--heartbeat-timeout", "5", script, used, "0.01")
    await_until(lambda: sum(rank == 2 for rank, *_ in lines(used)) > 3, run)
    with contextlib.suppress(ProcessLookupError):
        os.kill(next(pid for rank, _, pid, _ in lines(used) if rank == 2), signal.SIGKILL)
    run.wait(60)
    found = lines(used)
    counted = Counter(number for *_, numbers in found for number in numbers)
    assert sorted(counted) == list(range(240)) and min(counted.values()) >= 2, run.text
    dead = {number for rank, *_, numbers in found if rank == 2 for number in numbers}
    assert all(counted[number] == 2 for number in counted if number not in dead), "only its own are used again"
