"""Training goes on without the scheduler; one restarted with the same state and address knows everybody again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from ps.protocol.query import fetch_status
from support.cluster import TRAIN, Cluster, Process, live_workers, result

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

Start = Callable[..., Cluster]
SLACK = 6.0


def test_training_goes_on_to_the_end_and_workers_exit_in_bounded_time(start: Start) -> None:
    cluster = start(servers=2, workers=2)
    gate = cluster.path("gate")
    workers = cluster.train(2, "--steps", 60, "--nap", 0.01, "--gate", f"20:{gate}")
    for worker in workers:
        worker.wait_for("gate 20")
    cluster.scheduler.kill()
    gate.touch()
    killed = time.monotonic()
    assert [worker.wait() for worker in workers] == [0, 0]
    assert time.monotonic() - killed < 10 + SLACK
    assert {result(worker)["clock"] for worker in workers} == {"60"}


def test_workers_with_unequal_steps_end_without_a_scheduler_too(start: Start) -> None:
    cluster = start(servers=2, workers=3)
    gate = cluster.path("gate")
    workers = cluster.train(3, "--steps", 40, "--steps-of", "1:25", "--gate", f"20:{gate}")
    for worker in workers:
        worker.wait_for("gate 20")
    cluster.scheduler.kill()
    gate.touch()
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert [result(worker)["clock"] for worker in workers] == ["40", "25", "40"]


def test_a_silent_scheduler_is_named_with_what_to_do(start: Start) -> None:
    cluster = start(workers=1)
    gate = cluster.path("gate")
    (worker,) = cluster.train(1, "--steps", 20, "--gate", f"10:{gate}")
    worker.wait_for("gate 10")
    cluster.scheduler.kill()
    for process in (worker, cluster.servers[0]):
        line = process.wait_for("scheduler at .* silent").string
        assert cluster.address in line and "--state" in line
    gate.touch()
    assert worker.wait() == 0


def test_a_restarted_scheduler_knows_the_members_and_serves_barriers_and_late_joins(start: Start) -> None:
    cluster = start(servers=2, workers=2, state=True)
    gate = cluster.path("gate")
    workers = cluster.train(2, "--steps", 30, "--gate", f"10:{gate}", "--barrier-at", 20, "--barrier")
    for worker in workers:
        worker.wait_for("gate 10")
    before = cluster.status()
    cluster.scheduler.kill()
    cluster.start_scheduler()
    after = cluster.wait_status(lambda status: all(w["clock"] == 10 for w in live_workers(status)))
    for role in ("servers", "workers"):
        assert [(m["id"], m["rank"], m["pid"], m["state"]) for m in after[role]] == [
            (m["id"], m["rank"], m["pid"], m["state"]) for m in before[role]
        ]
    assert (after["phase"], after["job"]) == ("running", before["job"])
    late = cluster.worker(TRAIN, "--steps", 30, "--barrier-at", 20, "--barrier")
    late.wait_for("joined rank=2")
    gate.touch()
    assert [worker.wait() for worker in (*workers, late)] == [0, 0, 0]
    assert len({result(worker)["digest"] for worker in (*workers, late)}) == 1
    assert [cluster.scheduler.wait(), *(server.wait() for server in cluster.servers)] == [0, 0, 0]


def test_who_waits_in_a_barrier_while_the_scheduler_restarts_is_not_forgotten(start: Start) -> None:
    cluster = start(servers=1, workers=2, state=True)
    gate = cluster.path("gate")
    workers = cluster.train(2, "--steps", 12, "--barrier-at", 6, "--gate", f"0@6:{gate}")
    workers[1].wait_for("barrier 6")
    cluster.wait_status(lambda status: status["barrier"] == [1])
    cluster.scheduler.kill()
    cluster.start_scheduler()
    cluster.wait_status(lambda status: status["barrier"] == [1])
    gate.touch()
    assert [worker.wait() for worker in workers] == [0, 0]
    assert result(workers[0])["digest"] == result(workers[1])["digest"]


def test_a_worker_that_dies_while_the_scheduler_is_away_is_declared_dead_after_its_restart(start: Start) -> None:
    cluster = start(servers=1, workers=3, state=True)
    workers = cluster.train(3, "--steps", 30, "--gate", f"1@10:{cluster.path('never')}")
    workers[1].wait_for("gate 10")
    cluster.scheduler.kill()
    workers[1].kill()
    cluster.start_scheduler()
    assert [workers[0].wait(), workers[2].wait()] == [0, 0]
    assert result(workers[0])["digest"] == result(workers[2])["digest"]
    assert cluster.scheduler.wait() == 0


@pytest.mark.parametrize("restarts", [3, 0])
def test_a_run_starts_its_scheduler_again_and_otherwise_trains_to_the_end_and_says_how_to(
    command: Callable[..., Process], restarts: int
) -> None:
    barrier = ("--barrier-at", 40) if restarts else ()  # which only a scheduler that is there lets them through
    run = command("run", "-w", 2, "--restarts", restarts, TRAIN, "--steps", 60, "--shout", "--nap", 0.02, *barrier)
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    status = fetch_status(address)
    run.wait_for("clock 3 of rank 0")
    # The status does not name the scheduler's process; it is the run's only child that runs that role.
    Process.signal_pid(Process.child(run.pid, "scheduler"), signal.SIGKILL)
    assert run.wait() == 0, run.text
    assert status["scheduler"]["address"] == address
    again = "scheduler failed (killed by SIGKILL): starting it again with the state that it has kept, 1 of at most 3"
    without = "training goes on without it. To bring it back: psctl scheduler"
    assert (again if restarts else without) in run.text
    assert sum("result rank=" in line and "clock=60" in line for line in run.lines) == 2
