"""Promises of keys among real processes: revoked is cut off on every line, a wrong key is told, a run has its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ps.errors import KeyRefused
from ps.keys import local_run
from ps.protocol.query import fetch_status, ping
from support.cluster import SCRIPTS, TRAIN, Cluster, Process, wait_until
from support.keyed import Ring

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Start = Callable[..., Cluster]


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    made = Ring(tmp_path / "keys", server="server", zero="worker", one="worker", operator="operator")
    made.add("stranger", "worker", listed=False)
    return made


def keyed(start: Start, ring: Ring, **job: Any) -> Cluster:
    cluster = start("--keys", ring["scheduler"], joining=0, **job)
    cluster.start("server", "--keys", ring["server"])
    return cluster


def train(cluster: Cluster, ring: Ring, name: str, rank: int, *args: object) -> Process:
    return cluster.start("worker", "--rank", str(rank), "--keys", ring[name], TRAIN, *map(str, args))


def status(cluster: Cluster, ring: Ring) -> dict[str, Any]:
    return fetch_status(cluster.address, 5.0, ring["operator"])


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_who_is_revoked_is_cut_off_and_the_others_train_on(start: Start, ring: Ring, transport: str) -> None:
    cluster = keyed(start, ring, transport=transport, heartbeat_timeout=30)
    gates = [cluster.path("gate 0"), cluster.path("gate 1")]
    zero, one = (
        train(cluster, ring, name, rank, "--steps", 12, "--gate", f"5:{gates[rank]}")
        for rank, name in enumerate(("zero", "one"))
    )
    for worker in (zero, one):
        worker.wait_for("gate 5")
    ring.revoke("one")
    began = time.monotonic()
    wait_until(lambda: status(cluster, ring)["deaths"])
    assert time.monotonic() - began < 10
    assert status(cluster, ring)["deaths"][0]["why"] == "its key was revoked"
    gates[1].touch()
    assert one.wait() == 10
    assert "refused the key of one" in one.text
    gates[0].touch()
    assert zero.wait() == 0


def test_a_scheduler_that_is_started_anew_with_another_list_has_it_hold_everywhere(start: Start, ring: Ring) -> None:
    cluster = keyed(start, ring, transport="tcp", state=True)
    gate = cluster.path("gate")
    zero, one = (
        train(cluster, ring, name, rank, "--steps", 12, "--gate", f"5:{gate}")
        for rank, name in enumerate(("zero", "one"))
    )
    for worker in (zero, one):
        worker.wait_for("gate 5")
    cluster.scheduler.kill()
    ring.revoke("one")
    ring.add("late", "worker")
    cluster.start_scheduler()
    began = time.monotonic()
    cluster.processes[1].wait_for("1 keys are let in no more")
    assert time.monotonic() - began < 10, "the time-out of a heartbeat"
    wait_until(lambda: [death["why"] for death in status(cluster, ring)["deaths"]] == ["its key was revoked"])
    late = train(cluster, ring, "late", 2, "--steps", 12)
    late.wait_for("joined rank=2")
    gate.touch()
    assert one.wait() == 10
    assert "refused the key of one" in one.text
    assert zero.wait() == late.wait() == 0


def test_a_wrong_key_is_told_at_once_with_an_exit_code_of_its_own(start: Start, ring: Ring) -> None:
    cluster = keyed(start, ring)
    found = train(cluster, ring, "stranger", 0)
    bare = cluster.start("worker", TRAIN)
    server = cluster.start("server", "--keys", ring["zero"])
    assert found.wait() == bare.wait() == 10
    assert "refused the key of stranger" in found.text and "wants keys" in bare.text
    assert server.wait() == 2 and "those of a worker, and this is a server" in server.text


def with_no_keys(address: str) -> None:
    """Ask as somebody who has found none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_run, "folder_of", lambda address, role: None)
        ping(address, 5.0)


def test_a_run_has_keys_of_its_own_that_this_users_commands_find(
    forked: Callable[..., Process], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = forked("run", "-w", "1", TRAIN, "--steps", "4", "--gate", f"2:{gate}")
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    run.wait_for("gate 2")
    assert forked("ping", address).wait() == 0
    with pytest.raises(KeyRefused, match="wants keys"):
        with_no_keys(address)
    gate.touch()
    assert run.wait() == 0


def test_processes_that_end_in_good_order_have_nothing_to_tell_of_keys(
    forked: Callable[..., Process], tmp_path: Path
) -> None:
    pipeline = "--mode", "pipeline", SCRIPTS / "pipeline.py", tmp_path / "stage-{rank}.npz"
    for command in (("--transport", "tcp", *pipeline), (TRAIN, "--steps", "4")):
        run = forked("run", "-w", "2", *command)
        assert run.wait() == 0
        assert "authenticator" not in run.text and "Traceback" not in run.text


def test_elsewhere_than_on_loopback_nothing_begins_without_keys(forked: Callable[..., Process]) -> None:
    for command in (("run", "--host", "0.0.0.0", TRAIN), ("scheduler", "--host", "0.0.0.0", "--port", "0")):
        refused = forked(*command)
        assert refused.wait() == 2
        assert "without keys this process listens on loopback only" in refused.text


CLIENT = """
import pathlib, sys, time
import numpy as np, ps
with ps.connect(optimizer="sgd:lr=0.1") as kv:
    params = kv.init({"w": np.zeros(5000)})
    for at, (x, y) in enumerate(kv.batches((np.zeros((96, 1)), np.zeros(96)), batch_size=4, epochs=1)):
        if at == 2:
            print("gate", flush=True)
            while not pathlib.Path(sys.argv[1], str(kv.rank)).exists():
                time.sleep(0.02)
        kv.step({"w": np.ones(5000)})
"""


def test_rounds_go_on_without_a_client_that_is_revoked_in_one(start: Start, ring: Ring, tmp_path: Path) -> None:
    names = ("red", "green", "blue")
    for name in names:
        ring.add(name, "client")
    script, gates = tmp_path / "client.py", tmp_path / "gates"
    gates.mkdir()
    script.write_text(CLIENT)
    cluster = keyed(
        start, ring, mode="federated", workers=3, rounds=3, heartbeat_timeout=30, over_select=1, round_deadline=30
    )
    about = (str(script), str(gates))
    red, green, blue = (
        cluster.start("worker", "--rank", str(rank), "--keys", ring[name], *about) for rank, name in enumerate(names)
    )
    for client in (red, green, blue):
        client.wait_for("gate")
    ring.revoke("blue")
    wait_until(lambda: any(row["state"] == "dead" for row in status(cluster, ring)["workers"]))
    (gates / "2").touch()
    assert blue.wait() == 10
    for rank in (0, 1):
        (gates / str(rank)).touch()
    assert red.wait() == green.wait() == 0
