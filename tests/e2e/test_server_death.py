"""Without one of the servers nobody can go on: everyone ends within the time-out, with a message that names it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from ps.protocol.query import fetch_status
from support.cluster import TRAIN, Cluster, Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

TIMEOUT = 1.5
SLACK = 6.0


def test_everyone_ends_and_names_the_killed_server(start: Callable[..., Cluster]) -> None:
    cluster = start(servers=2, workers=2, heartbeat_timeout=TIMEOUT)
    workers = cluster.train(2, "--steps", 100000, "--shout", "--nap", 0.01)
    for worker in workers:
        worker.wait_for("clock 3 ")
    cluster.servers[1].kill()
    killed = time.monotonic()
    others = [*workers, cluster.servers[0], cluster.scheduler]
    assert [process.wait() for process in others] == [4, 4, 4, 4]
    assert time.monotonic() - killed < TIMEOUT + 3 + SLACK
    for process in others:
        assert "server 1" in process.text, process.text
        assert "Traceback" not in process.text, process.text


def test_a_server_that_stands_still_is_given_up_like_a_dead_one(start: Callable[..., Cluster]) -> None:
    cluster = start(servers=2, workers=1, heartbeat_timeout=TIMEOUT)
    (worker,) = cluster.train(1, "--steps", 100000, "--shout", "--nap", 0.01)
    worker.wait_for("clock 3 ")
    cluster.servers[0].stop()
    assert [worker.wait(), cluster.servers[1].wait(), cluster.scheduler.wait()] == [4, 4, 4]
    assert "server 0" in worker.text


def test_a_server_ended_in_order_is_named_too(start: Callable[..., Cluster]) -> None:
    cluster = start(servers=1, workers=1, heartbeat_timeout=TIMEOUT)
    (worker,) = cluster.train(1, "--steps", 100000, "--shout", "--nap", 0.01)
    worker.wait_for("clock 3 ")
    cluster.servers[0].signal(signal.SIGTERM)
    assert cluster.servers[0].wait() == 143
    assert worker.wait() == 4
    assert "server 0" in worker.text
    assert cluster.scheduler.wait() == 4


def test_a_run_ends_with_the_code_of_its_killed_server(command: Callable[..., Process]) -> None:
    options = ("-s", 2, "-w", 2, "--heartbeat-timeout", TIMEOUT)
    run = command("run", *options, TRAIN, "--steps", 100000, "--shout", "--nap", 0.01)
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    run.wait_for("clock 3 of rank 0")
    pid = next(server["pid"] for server in fetch_status(address)["servers"] if server["rank"] == 1)
    Process.signal_pid(pid, signal.SIGKILL)
    assert run.wait() == 137
    assert "failed first: server 1 (killed by SIGKILL)" in run.text
