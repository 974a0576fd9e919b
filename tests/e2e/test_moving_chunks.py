"""Promises of servers that come and go while real workers train: the same bits, over every transport; all that a server
has is others' when it is drained; who dies while a chunk is on its way to it, or while the scheduler is away, harms
nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.cluster import SCRIPTS, Cluster, Process, result, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BITS = str(SCRIPTS / "bits.py")
STEPS = 60
JOB = {"chunk_size": "4KiB", "heartbeat_timeout": 5}


def rows(status: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The live servers, by rank."""
    return {row["rank"]: row for row in status["servers"] if row["state"] == "live"}


def is_balanced(status: dict[str, Any], ranks: set[int]) -> bool:
    """Whether these servers, and no others, have chunks, none much more than another."""
    held = [row.get("bytes", 0) for row in rows(status).values()]
    settled = not (status.get("moves") or {}).get("left")
    return set(rows(status)) == ranks and settled and min(held) > 0 and max(held) - min(held) <= 2 * 4096


def trained(cluster: Cluster, nap: float) -> list[Process]:
    return [cluster.worker(BITS, STEPS, rank=rank, NAP=str(nap)) for rank in (0, 1)]


def digests(workers: list[Process]) -> set[str]:
    for worker in workers:
        assert worker.wait() == 0, worker.text
    return {result(worker)["digest"] for worker in workers}


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, set[str]]:
    """Optimizer -> the bits that workers end with whom nobody disturbs, over any transport."""
    return {}


@pytest.mark.parametrize("optimizer", ["adam:lr=0.01", "momentum:lr=0.01,momentum=0.9"])
@pytest.mark.parametrize("transport", ["shm", "ipc", "tcp"])
def test_the_bits_are_those_of_an_undisturbed_run_while_a_server_comes_and_another_is_drained(
    start: Callable[..., Cluster],
    forked: Callable[..., Process],
    undisturbed: dict[str, set[str]],
    transport: str,
    optimizer: str,
) -> None:
    if optimizer not in undisturbed:
        still = start(servers=2, workers=2, transport=transport, optimizer=optimizer, **JOB)
        undisturbed[optimizer] = digests(trained(still, 0.0))
    cluster = start(servers=2, workers=2, transport=transport, optimizer=optimizer, **JOB)
    workers = trained(cluster, 0.15)
    cluster.wait_clock(3)
    cluster.start("server")
    cluster.wait_status(lambda status: is_balanced(status, {0, 1, 2}))
    drain = forked("drain", 1, "--scheduler", cluster.address)
    assert drain.wait() == 0, drain.text
    assert "server 1 has handed over all of its chunks" in drain.text
    assert cluster.servers[1].wait() == 0, cluster.servers[1].text
    cluster.wait_status(lambda status: is_balanced(status, {0, 2}))  # what servers say of themselves comes now and then
    assert max(worker["clock"] for worker in cluster.status()["workers"]) < STEPS, "it was all over before"
    assert digests(workers) == undisturbed[optimizer]
    assert cluster.scheduler.wait() == 0


def test_what_cannot_be_drained_is_refused_by_name(
    start: Callable[..., Cluster], forked: Callable[..., Process]
) -> None:
    cluster = start(servers=1, workers=1, **JOB)
    early = forked("drain", 0, "--scheduler", cluster.address)
    assert early.wait() == 7 and "the job has no model yet" in early.text
    worker = cluster.worker(BITS, STEPS, NAP="0.1")
    cluster.wait_clock(2)
    last = forked("drain", 0, "--scheduler", cluster.address)
    assert last.wait() == 7 and "server 0 is the last one that is left" in last.text
    unknown = forked("drain", 5, "--scheduler", cluster.address)
    assert unknown.wait() == 7 and "there is no server 5" in unknown.text
    assert worker.wait() == 0


def test_a_scheduler_that_is_killed_while_a_server_is_drained_goes_on_with_it(
    start: Callable[..., Cluster], forked: Callable[..., Process]
) -> None:
    cluster = start(servers=3, workers=2, state=True, **JOB)
    workers = trained(cluster, 0.15)
    cluster.wait_clock(3)
    drain = forked("drain", 0, "--scheduler", cluster.address)
    cluster.wait_status(lambda status: status.get("moves"))
    cluster.scheduler.kill()
    cluster.start_scheduler()
    assert drain.wait() == 0, drain.text
    assert cluster.servers[0].wait() == 0
    assert len(digests(workers)) == 1
    assert cluster.scheduler.wait() == 0


def test_the_death_of_a_server_that_has_no_chunk_yet_ends_nothing(start: Callable[..., Cluster]) -> None:
    cluster = start(servers=2, workers=2, **{**JOB, "heartbeat_timeout": 2})
    workers = trained(cluster, 0.1)
    cluster.wait_clock(3)
    late = cluster.start("server")
    late.wait_for("joined the job as server 2")
    late.stop()  # before it can take anything, or just after: then it has all that it was given, and goes on
    status = cluster.wait_status(lambda status: len(rows(status)) == 2 or rows(status)[2].get("bytes"))
    if len(rows(status)) == 3:
        late.resume()
    assert len(digests(workers)) == 1
    assert cluster.scheduler.wait() == 0


def test_checkpoints_are_made_while_servers_come_and_go_and_are_gone_on_from(
    start: Callable[..., Cluster], forked: Callable[..., Process], tmp_path: Path
) -> None:
    job = {**JOB, "servers": 2, "workers": 2, "optimizer": "adam:lr=0.01"}
    cluster = start(checkpoint_dir=str(tmp_path / "kept"), checkpoint_every="1s", **job)
    workers = trained(cluster, 0.15)
    cluster.wait_clock(3)
    cluster.start("server")
    cluster.wait_status(lambda status: is_balanced(status, {0, 1, 2}))
    cluster.scheduler.wait_for(r"the checkpoint step-\d+ is whole")
    drain = forked("drain", 1, "--scheduler", cluster.address)
    assert drain.wait() == 0, drain.text
    assert len(digests(workers)) == 1
    assert cluster.scheduler.wait() == 0
    before_last = sorted((tmp_path / "kept").glob("step-*"))[-2]
    again = start(resume=str(before_last), **job)
    assert len(digests(trained(again, 0.0))) == 1, "it goes on, with as many servers as the job began with"
    assert again.scheduler.wait() == 0


def test_servers_that_come_where_there_are_fewer_chunks_than_servers_stop_no_checkpoint(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = start(workers=1, checkpoint_dir=str(tmp_path / "kept"), optimizer="sgd:lr=1", heartbeat_timeout=5)
    stop, words = cluster.path("stop"), ("--size", 100, "--nap", 0.05)
    worker = cluster.worker(str(SCRIPTS / "counting.py"), stop, *words)  # two kinds of floats: two chunks
    cluster.wait_clock(3)
    for _ in range(2):
        cluster.start("server")
    cluster.wait_status(lambda status: [bool(row.get("bytes")) for row in rows(status).values()].count(True) == 2)
    assert len(rows(cluster.status())) == 3
    stop.touch()
    assert worker.wait() == 0 and cluster.scheduler.wait() == 0, cluster.scheduler.text
    [last] = (tmp_path / "kept").glob("step-*")
    assert {path.name for path in last.glob("*.safetensors")} == {f"server-{rank}.safetensors" for rank in range(3)}


def test_one_who_follows_the_model_has_it_while_chunks_move_after_that_and_in_the_end(
    start: Callable[..., Cluster], forked: Callable[..., Process], tmp_path: Path
) -> None:
    cluster = start(servers=2, workers=2, **JOB)
    workers = trained(cluster, 0.2)
    cluster.wait_clock(3)
    folder = tmp_path / "snapshots"
    follower = forked("follow", "--scheduler", cluster.address, "--out", str(folder), "--every", "0.2")
    follower.wait_for("step-")
    cluster.start("server")
    cluster.wait_status(lambda status: is_balanced(status, {0, 1, 2}))
    drain = forked("drain", 1, "--scheduler", cluster.address)
    assert drain.wait() == 0, drain.text
    clock = max(worker["clock"] for worker in cluster.status()["workers"])
    wait_until(lambda: max(steps_in(folder)) > clock)
    assert len(digests(workers)) == 1
    assert follower.wait() == 0, follower.text
    assert max(steps_in(folder)) == STEPS


def steps_in(folder: Path) -> list[int]:
    """The clocks of the snapshots in a folder."""
    return [int(path.stem.partition("-")[2]) for path in folder.glob("step-*.safetensors")]
