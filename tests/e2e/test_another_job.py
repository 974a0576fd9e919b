"""Processes of a job whose scheduler was replaced by another job's do nothing to that, are told so, and end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cluster import Cluster, result

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


def test_an_old_jobs_processes_change_nothing_in_a_new_job_on_the_same_port_and_end(
    start: Callable[..., Cluster],
) -> None:
    cluster = start(servers=1, workers=1, mode="async")
    never = cluster.path("never")
    [old] = cluster.train(1, "--steps", 30, "--gate", f"10:{never}")
    old.wait_for("gate 10")
    [old_server] = cluster.servers
    cluster.scheduler.kill()
    cluster.start_scheduler()  # without a state: it knows nothing of the job before
    assert old_server.wait() == 4, old_server.text
    assert "another job runs at this address by now" in old_server.text
    status = cluster.wait_status(lambda status: sum(status["scheduler"]["rejected"].values()) >= 4)
    assert (status["phase"], status["servers"], status["workers"]) == ("waiting", [], [])
    never.touch()
    assert old.wait() == 4, old.text
    assert "another job runs at this address by now" in old.text
    cluster.restart_server(0)
    [new] = cluster.train(1, "--steps", 30)
    assert new.wait() == 0 and result(new)["clock"] == "30"
    assert cluster.scheduler.wait() == 0
