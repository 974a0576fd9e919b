"""No silent waits: who waits in a running job, for whom, for which clock and chunk, is in the status and in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.cluster import TRAIN, Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def waits(status: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(wait["who"], wait["for"], wait["what"]) for wait in status["waits"]}


def test_a_worker_that_is_behind_and_a_barrier_are_shown_and_told(start: Callable[..., Cluster]) -> None:
    cluster = start(workers=3, chunk_size=1024, heartbeat_timeout=30)
    behind, ahead = cluster.path("behind"), cluster.path("ahead")
    gates = ("--gate", f"2@5:{behind}", "--gate", f"2@9:{ahead}", "--barrier-at", 9)
    workers = cluster.train(3, "--steps", 12, *gates)
    held = ("server 0", "worker 2", "clock 6, chunk 0 and 4 more")
    status = cluster.wait_status(
        lambda status: {who for who, _, _ in waits(status)} >= {"server 0", "worker 0", "worker 1"}
    )
    assert held in waits(status), waits(status)
    assert all(wait["seconds"] >= 1.0 for wait in status["waits"])
    told = cluster.scheduler.wait_for(r"has waited (\d+) s for worker 2: clock 6, chunk 0 and 4 more")
    assert 5 <= int(told[1]) < 20
    workers[0].wait_for("waiting 5 s for worker 2")  # it came to its wait when it came, not when the server did
    behind.touch()
    cluster.wait_status(lambda status: ("workers 0, 1", "worker 2", "a barrier") in waits(status))
    ahead.touch()
    assert [worker.wait() for worker in workers] == [0, 0, 0]


def test_a_job_that_is_not_complete_says_who_is_missing(start: Callable[..., Cluster]) -> None:
    cluster = start(workers=2)
    worker = cluster.train(1, "--steps", 2)[0]
    missing = ("the job", "1 worker", "it begins when all are here (--start-timeout)")
    status = cluster.wait_status(lambda status: missing in waits(status))
    assert status["phase"] == "waiting"
    other = cluster.worker(TRAIN, "--steps", 2)
    assert [worker.wait(), other.wait()] == [0, 0]
