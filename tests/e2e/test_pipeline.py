"""Stages as processes of their own: the bits of one process; and where one is killed nobody hangs."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ps.protocol.query import fetch_status
from ps.weights_file import open_weights
from support.cluster import SCRIPTS, Cluster, Process, clean_environment, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

Start = Callable[..., Cluster]
SCRIPT, LARGE = str(SCRIPTS / "pipeline.py"), str(SCRIPTS / "large_pipeline.py")
SLACK = 6.0
"""Seconds that a busy machine may add to a time-out."""


@pytest.mark.parametrize("waves", [1, 2])
def test_four_stages_as_processes_have_the_bits_of_one_process(start: Start, tmp_path: Path, waves: int) -> None:
    cluster = start(servers=2, workers=4, mode="pipeline", clip_norm=0.5, optimizer="adam:lr=0.01", waves=waves)
    file, save = tmp_path / "stage-{rank}.npz", str(tmp_path / "model.safetensors")
    workers = [cluster.worker(SCRIPT, file, rank=rank, PS_SAVE=save) for rank in range(4)]
    same = clean_environment(PS_MODE="pipeline", PS_CLIP_NORM="0.5", PS_WAVES=str(waves))
    alone = Process("alone", [sys.executable, SCRIPT, str(tmp_path / "whole.npz")], same)
    assert [process.wait() for process in (*workers, alone)] == [0] * 5, [process.text for process in workers]
    whole = np.load(tmp_path / "whole.npz")
    found = {name: value for rank in range(4) for name, value in np.load(tmp_path / f"stage-{rank}.npz").items()}
    assert found.keys() == set(whole)
    assert all(np.array_equal(found[name], whole[name]) for name in whole)
    with open_weights(save) as model:
        assert model.entries.keys() == set(whole)
        into = np.empty_like(whole["4.weight"])
        model.read("4.weight", into)
    assert np.array_equal(into, whole["4.weight"])


def test_a_model_that_one_process_has_no_room_for_is_trained_by_four(start: Start) -> None:
    room = 820  # megabytes of address space, of which libraries and threads take half
    cluster = start(workers=4, mode="pipeline")
    workers = cluster.train(4, room, script=LARGE)
    few = clean_environment(OPENBLAS_NUM_THREADS="1")
    alone = Process("alone", [sys.executable, LARGE, str(room)], few)
    assert alone.wait() == 1
    assert "MemoryError" in alone.text
    assert [process.wait() for process in workers] == [0] * 4, [process.text for process in workers]
    assert all("trained 70 MB of the model" in process.text for process in workers)


@pytest.mark.parametrize("waves", [1, 3])
def test_a_stage_that_is_killed_in_the_midst_of_a_step_ends_its_pipeline_by_name_and_no_other(
    start: Start, waves: int
) -> None:
    cluster = start(workers=4, mode="pipeline", stages=2, heartbeat_timeout=2, waves=waves)
    workers = cluster.train(4, "-", "--epochs", 400, "--slow", "2:0.005", script=SCRIPT)
    workers[1].wait_for("step 5 ")
    workers[1].kill()
    killed = time.monotonic()
    assert workers[0].wait() == 4
    assert time.monotonic() - killed < 2 + 1 + SLACK
    assert "worker 1 is gone, and" in workers[0].text
    step = max(int(line.split()[1]) for line in workers[2].text.splitlines() if line.startswith("step "))
    workers[2].wait_for(f"step {step + 20} ")


def _assert_bits_of_one_process(folder: Path, workers: int, epochs: int) -> None:
    command = [sys.executable, SCRIPT, str(folder / "whole.npz"), "--epochs", str(epochs)]
    assert Process("alone", command, clean_environment()).wait() == 0
    whole = np.load(folder / "whole.npz")
    found = {name: value for rank in range(workers) for name, value in np.load(folder / f"stage-{rank}.npz").items()}
    assert found.keys() == set(whole)
    assert all(np.array_equal(found[name], whole[name]) for name in whole)


def test_spares_take_the_places_of_a_stage_that_is_killed_and_of_one_that_stands_still(
    start: Start, tmp_path: Path
) -> None:
    cluster = start(workers=2, mode="pipeline", spares=2, optimizer="adam:lr=0.01")
    slow = "--epochs", 40, "--slow", "2:0.004"
    everybody = [cluster.worker(SCRIPT, tmp_path / "stage-{rank}.npz", *slow) for _ in range(4)]

    def lose(rank: int, clock: int, harm: str) -> Process:
        status = cluster.wait_clock(clock)
        pid = next(row["pid"] for row in status["workers"] if row["rank"] == rank and row["state"] == "live")
        victim = next(process for process in everybody if process.pid == pid)
        getattr(victim, harm)()
        everybody.remove(victim)
        return victim

    lose(1, 10, "kill")
    stopped = lose(0, 40, "stop")
    cluster.wait_clock(60)
    stopped.resume()
    assert stopped.wait() == 4
    assert "was declared dead" in stopped.text
    assert [process.wait() for process in everybody] == [0, 0], [process.text for process in everybody]
    _assert_bits_of_one_process(tmp_path, 2, 40)


def test_a_run_with_a_spare_ends_well_though_a_worker_is_killed(forked: Callable[..., Process], tmp_path: Path) -> None:
    flags = "-s", 1, "-w", 2, "--spares", 1, "--mode", "pipeline", "--run-dir", tmp_path / "run"
    run = forked("run", *flags, SCRIPT, tmp_path / "stage-{rank}.npz", "--epochs", 20, "--slow", "2:0.004")
    address = run.wait_for(r"2 workers, 1 spare, scheduler at (\S+)")[1]
    run.wait_for("step 9 is done")
    pids: list[int] = []

    def is_shown() -> bool:  # a status may be a moment old
        pids[:] = [row["pid"] for row in fetch_status(address)["workers"] if row["rank"] == 1]
        return bool(pids)

    wait_until(is_shown)
    os.kill(pids[0], signal.SIGKILL)
    assert run.wait() == 0, run.text
    assert re.search(r"worker 1 failed \(killed by SIGKILL\); a spare takes its place", run.text)
    _assert_bits_of_one_process(tmp_path, 2, 20)


@pytest.mark.timeout(120)
def test_a_stage_and_the_scheduler_that_are_killed_at_once_cost_time_and_nothing_else(
    start: Start, tmp_path: Path
) -> None:
    cluster = start(workers=2, mode="pipeline", spares=1, optimizer="adam:lr=0.01", state=True)
    slow = "--epochs", 30, "--slow", "2:0.004"
    everybody = [cluster.worker(SCRIPT, tmp_path / "stage-{rank}.npz", *slow) for _ in range(3)]
    status = cluster.wait_clock(10)
    pid = next(row["pid"] for row in status["workers"] if row["rank"] == 1 and row["state"] == "live")
    victim = next(process for process in everybody if process.pid == pid)
    cluster.scheduler.kill()
    victim.kill()
    everybody.remove(victim)
    cluster.start_scheduler()
    assert [process.wait() for process in everybody] == [0, 0], [process.text for process in everybody]
    _assert_bits_of_one_process(tmp_path, 2, 30)
