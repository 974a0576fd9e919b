"""Workers that come and go: all of them killed at once, fewer than the least, more than the most."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ps.protocol.query import fetch_status
from support.cluster import SCRIPTS, Cluster, Process, live_workers, wait_until
from support.cut_short import kill_all, whole

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TIMEOUT = 1.5
SCRIPT = """
import sys, time, numpy as np, ps
with ps.connect(optimizer="sgd:lr=1") as kv:
    w = kv.init({"w": np.zeros(64, np.float32)})
    print("joined", kv.rank, kv.clock, flush=True)
    while kv.clock < int(sys.argv[1]) and not kv.stopped:
        kv.step({"w": np.ones(64, np.float32)}, loss=1.0, examples=1)
        print("stepped", kv.clock, flush=True)
        time.sleep(0.03)
    print("weights", float(w["w"][0]), kv.clock, flush=True)
"""


SHARED = """
import os, pathlib, signal, sys, time
import numpy as np, ps
folder, kills = pathlib.Path(sys.argv[1]), sys.argv[2] == "kill"
random = np.random.default_rng(0)
x = random.standard_normal((960, 5))
y = x @ np.arange(5.0)
with ps.connect(optimizer="momentum:lr=0.02", schedule="cosine:steps=150") as kv:
    w = kv.init({"w": np.zeros(5)})
    for a, b in kv.batches((x, y), batch_size=16, epochs=10):
        if kills and kv.clock == 30 and kv.rank and not (folder / str(kv.rank)).exists():
            (folder / str(kv.rank)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        off = a @ w["w"] - b
        kv.step({"w": a.T @ off / len(a)}, loss=float(np.mean(off**2)))
        if kills:
            time.sleep(0.01)
    print("weights", *w["w"], flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    found = tmp_path / "script.py"
    found.write_text(SCRIPT)
    return str(found)


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_a_run_whose_workers_are_all_killed_at_once_goes_on_with_the_model_that_they_had(
    forked: Callable[..., Process], path: str, tmp_path: Path, mode: str
) -> None:
    folder = tmp_path / "run"
    run = forked("run", "-w", "1:3", "--mode", mode, "--heartbeat-timeout", TIMEOUT, "--run-dir", folder, path, 60)
    run.wait_for("stepped 20")
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    for row in live_workers(dict(fetch_status(address, 5.0))):
        Process.signal_pid(row["pid"], signal.SIGKILL)
    assert run.wait(90) == 0, run.text
    assert sum("starting it again, 1 of at most 3 times" in line for line in run.lines) == 3
    joined = [int(line.split()[-1]) for line in run.lines if "| joined" in line]
    assert joined[:3] == [0, 0, 0] and min(joined[3:]) >= 15, "nobody began anew"
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    weights = {line.split("weights ")[1].split()[0] for line in run.lines if "| weights" in line}
    if mode == "sync":
        assert weights == {"-60.0"}, "one for each clock"
        made_of = {line["clock"]: (line["contributors"], line["examples"]) for line in steps if "contributors" in line}
        assert len(made_of) >= 40 and all(1 <= count <= 3 and of == count for count, of in made_of.values())
    assert {line["rank"] for line in steps} == {0, 1, 2}


def test_a_step_has_the_same_examples_with_all_workers_and_with_those_that_are_left(
    forked: Callable[..., Process], tmp_path: Path
) -> None:
    script, found, records = tmp_path / "script.py", {}, {}
    script.write_text(SHARED)
    for how in ("whole", "kill"):
        job = ["-w", "1:4", "--global-batch", 64, "--heartbeat-timeout", TIMEOUT, "--run-dir", tmp_path / how]
        run = forked("run", *job, script, tmp_path, how)
        assert run.wait(120) == 0, run.text
        ends = {line.split("weights ")[1] for line in run.lines if "| weights" in line}
        assert len(ends) == 1, "all have the same weights"
        found[how] = np.array([float(value) for value in ends.pop().split()])
        lines = [json.loads(line) for line in (tmp_path / how / "metrics.jsonl").read_text().splitlines()]
        records[how] = {line["clock"]: (line["contributors"], line["examples"]) for line in lines}
    assert set(records["whole"].values()) == {(4, 64.0)} and len(records["whole"]) == 150
    short = {clock: of for clock, of in records["kill"].items() if of[1] != 64.0}
    assert len(records["kill"]) == 150 and set(short) <= {30, 31, 32} and short, "only steps in which one is lost"
    assert {of[0] for of in records["kill"].values()} >= {1, 4}, "it went on with one and again with all"
    np.testing.assert_allclose(found["kill"], found["whole"], atol=0.02)
    np.testing.assert_allclose(found["whole"], np.arange(5.0), atol=0.1)


def test_a_run_with_a_global_batch_that_was_killed_as_a_whole_goes_on_with_the_bits_of_one_that_was_not(
    forked: Callable[..., Process], tmp_path: Path
) -> None:
    folder, script = tmp_path / "kept", str(SCRIPTS / "resumed.py")
    flags = ["-w", 2, "--optimizer", "adam:lr=0.01", "--global-batch", 60, "--clip-norm", 1, "--chunk-size", 4096]
    flags += ["--schedule", "cosine:steps=1000,warmup=100", "--schedule-unit", "examples", "--grace", 8]
    saving = ["--checkpoint-dir", folder, "--checkpoint-every", 5]

    def ends(run: Process) -> list[str]:
        assert run.wait(60) == 0, run.text
        return sorted(line for line in run.lines if "| END" in line)

    wanted = ends(forked("run", "-s", 2, *flags, script))
    first = forked("run", "-s", 2, *flags, *saving, script, "--nap", 0.05)
    wait_until(lambda: whole(folder))
    kill_all(first)
    second = forked("run", "-s", 3, *flags, *saving, script, "--nap", 0.05)
    assert len(wanted) == 2 and ends(second) == wanted
    assert re.search("BEGIN 0 (5 9|10 18|15 27)$", second.text, re.M), "nine batches for five steps"


@pytest.mark.parametrize("how", ["--rank", "PS_RANK", "JOB_COMPLETION_INDEX", "SLURM_PROCID"])
def test_a_worker_that_comes_back_at_once_with_its_rank_takes_its_place(
    start: Callable[..., Cluster], path: str, how: str
) -> None:
    cluster = start(workers=2, heartbeat_timeout=30)

    def worker(rank: int) -> Process:
        if how == "--rank":
            return cluster.worker(path, 60, rank=rank)
        return cluster.worker(path, 60, **{how: str(rank)})

    workers = [worker(rank) for rank in (0, 1)]
    workers[1].wait_for("stepped 10")
    workers[1].kill()
    again = worker(1)
    assert int(again.wait_for(r"^joined 1 (\d+)")[1]) >= 10
    assert again.wait() == 0 and workers[0].wait() == 0
    assert cluster.scheduler.wait() == 0


def test_with_too_few_the_others_wait_by_name_and_a_spare_or_a_newcomer_lets_them_go_on(
    start: Callable[..., Cluster], path: str
) -> None:
    cluster = start(workers="2:2", heartbeat_timeout=TIMEOUT)
    workers = [cluster.worker(path, 200) for _ in range(2)]
    workers[0].wait_for("stepped 10")
    spare = cluster.worker(path, 200)
    cluster.wait_status(lambda status: any(row.get("spare") for row in live_workers(status)))
    rank = workers[0].wait_for(r"^joined (\d) ")[1]
    workers[0].kill()
    spare.wait_for(rf"^joined {rank} \d\d")
    workers[1].kill()
    spare.wait_for("waiting 5 s for 1 more worker, as fewer than --min-workers are here")
    status = cluster.status()
    assert any("1 more workers" in wait["for"] for wait in status["waits"]), status["waits"]
    clock = max(row["clock"] for row in live_workers(status))
    late = cluster.worker(path, clock + 60)
    assert int(late.wait_for(r"^joined \d+ (\d+)")[1]) >= clock
    assert late.wait() == 0
    assert spare.wait() == 0, "the end of one is the end of the least"
    assert round(float(spare.wait_for(r"^weights (\S+)")[1]), 3) == -0.4, "one for each clock, by the job's own rate"
    assert cluster.scheduler.wait() == 0
