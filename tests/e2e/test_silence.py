"""Who says nothing for long: held by a call into C, stopped, or all gone at once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from support.cluster import SCRIPTS, Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TIMEOUT = 1.5
CLIENT = str(SCRIPTS / "client.py")
HOLDS = """
import ctypes, sys, numpy as np, ps
with ps.connect() as kv:
    w = kv.init({"w": np.zeros(64, np.float32)})
    for step in range(20):
        if kv.rank == 1 and step == 5:
            print("held", flush=True)
            ctypes.PyDLL(None).sleep(5)
        kv.step({"w": np.ones(64, np.float32)})
    print("weights", float(w["w"][0]), flush=True)
"""
JOINS = """
import numpy as np, ps
with ps.connect() as kv:
    w = kv.init({"w": np.zeros(64, np.float32)})
    print("weights", float(w["w"][0]), flush=True)
    for step in range(1000 if kv.clock < 1 else 3):
        kv.step({"w": np.ones(64, np.float32)})
        print("stepped", flush=True)
"""


def script(cluster: Cluster, text: str) -> str:
    path = cluster.path("script.py")
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("transport", ["tcp", "auto"])
def test_a_worker_whose_interpreter_is_held_for_longer_than_the_time_out_is_waited_for(
    start: Callable[..., Cluster], transport: str
) -> None:
    cluster = start(servers=1, workers=2, heartbeat_timeout=TIMEOUT, transport=transport)
    workers = [cluster.worker(script(cluster, HOLDS), rank=rank) for rank in (0, 1)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert cluster.scheduler.wait() == 0
    cluster.scheduler.wait_for("worker 1 .* its process lives: a call that holds its interpreter")
    assert len({worker.wait_for(r"^weights (\S+)")[1] for worker in workers}) == 1


def test_a_client_that_was_stopped_joins_again_by_itself(start: Callable[..., Cluster]) -> None:
    job = {"mode": "federated", "rounds": 8, "min_clients": 1, "chunk_size": 1024, "heartbeat_timeout": TIMEOUT}
    cluster = start(servers=1, workers=2, **job)
    gate = cluster.path("gate")
    other = cluster.worker(CLIENT, "--hold", gate, "--at", 3, rank=0)
    client = cluster.worker(CLIENT, "--nap", 0.1, rank=1)
    client.wait_for("fit round=1")
    client.signal(signal.SIGSTOP)
    cluster.wait_status(lambda status: status["deaths"])
    client.signal(signal.SIGCONT)
    client.wait_for("It joins again")
    gate.touch()
    assert [other.wait(), client.wait(), cluster.scheduler.wait(), cluster.servers[0].wait()] == [0] * 4
    client.wait_for("^final 8 of 1$")


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_when_all_workers_are_preempted_at_once_the_next_goes_on_with_their_model(
    start: Callable[..., Cluster], mode: str, signum: int
) -> None:
    cluster = start(servers=2, workers=2, mode=mode, heartbeat_timeout=TIMEOUT, chunk_size=1024)
    path = script(cluster, JOINS)
    workers = [cluster.worker(path, rank=rank) for rank in (0, 1)]
    for worker in workers:
        worker.wait_for("stepped")
    for worker in workers:
        worker.signal(signum)
    cluster.scheduler.wait_for("no worker is left; the model is kept for 600 s")
    late = cluster.worker(path)
    assert late.wait() == 0
    assert float(late.wait_for(r"^weights (\S+)")[1]) < 0
    assert [cluster.scheduler.wait(), *(server.wait() for server in cluster.servers)] == [0, 0, 0]
