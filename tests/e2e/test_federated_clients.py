"""Clients of a federated job come and go, by kill -9 too: the rounds go on with whoever is there, if anybody is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cluster import SCRIPTS, Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

CLIENT = str(SCRIPTS / "client.py")
ROUNDS = 6


def test_a_killed_client_is_missed_by_nobody_and_may_come_back_as_itself(start: Callable[..., Cluster]) -> None:
    job = {"mode": "federated", "rounds": ROUNDS, "min_clients": 2, "chunk_size": 1024}
    cluster = start(servers=1, workers=3, **job)
    state, gate = {"PS_STATE": str(cluster.path("client.state"))}, cluster.path("gate")
    clients = [cluster.worker(CLIENT, "--hold", gate, "--at", 4, rank=rank) for rank in (1, 2)]
    victim = cluster.worker(CLIENT, "--hold", gate, "--at", 2, rank=0, **state)
    victim.wait_for("fit round=2")
    victim.kill()
    for client in clients:
        client.wait_for("fit round=4")
    clients.append(cluster.worker(CLIENT, rank=0, **state))
    clients[-1].wait_for("^fit round=4")
    gate.touch()
    assert [client.wait() for client in clients] == [0] * 3
    for client in clients:
        client.wait_for(f"^final {ROUNDS} of 1$")
    assert [cluster.scheduler.wait(), cluster.servers[0].wait()] == [0, 0]


def test_when_all_clients_are_gone_the_job_ends_in_bounded_time_and_says_so(start: Callable[..., Cluster]) -> None:
    cluster = start(servers=1, workers=1, mode="federated", start_timeout=2, idle_timeout=2)
    client = cluster.worker(CLIENT, "--hold", cluster.path("never"))
    client.wait_for("^fit ")
    client.kill()
    assert [cluster.scheduler.wait(15), cluster.servers[0].wait(5)] == [4, 4]
    for process in (cluster.scheduler, cluster.servers[0]):
        assert "no worker is left, and none came for 2 s (--idle-timeout)" in process.text
        assert "Traceback" not in process.text
