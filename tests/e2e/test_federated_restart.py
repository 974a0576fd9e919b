"""A federated job whose every process is killed and started again by the same commands goes on where it was."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cluster import SCRIPTS, Cluster, Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CLIENT = str(SCRIPTS / "client.py")
ROUNDS = 6


def test_everything_is_killed_and_started_again_without_ranks_and_all_rounds_are_played(
    start: Callable[..., Cluster],
) -> None:
    job = {"mode": "federated", "rounds": ROUNDS, "min_clients": 2, "chunk_size": 1024, "heartbeat_timeout": 2}
    cluster = start(servers=2, workers=2, state=True, joining=0, **job)
    gate = cluster.path("gate")

    def begin(order: int) -> list[Process]:
        names = ["a", "b"][::order]
        servers = [cluster.start("server", PS_STATE=str(cluster.path(f"server-{name}"))) for name in names]
        clients = []
        for name in names:  # one after the other: who is first would not be the same again
            flags = ["--hold", gate, "--at", 3]
            clients.append(cluster.worker(CLIENT, *flags, PS_STATE=str(cluster.path(f"client-{name}"))))
        return [*servers, *clients]

    def ranks(processes: list[Process]) -> dict[str, str]:
        return {f"{n}": process.wait_for(r"^fit round=3 client=(\d)")[1] for n, process in enumerate(processes[2:])}

    first = begin(1)
    before = ranks(first)
    for process in (*first, cluster.scheduler):
        process.kill()
    cluster.start_scheduler()
    again = begin(-1)
    after = ranks(again)
    assert (after["0"], after["1"]) == (before["1"], before["0"]), "each is who it was"
    gate.touch()
    for process in again[2:]:
        process.wait_for(f"^final {ROUNDS} of 1$")
    assert [process.wait() for process in (*again, cluster.scheduler)] == [0] * 5


def test_the_same_command_goes_on_at_its_round_after_its_launcher_was_killed_and_then_says_that_all_is_done(
    command: Callable[..., Process], tmp_path: Path
) -> None:
    job = ("--mode", "federated", "--rounds", ROUNDS, "--min-clients", 2, "--chunk-size", 1024)
    files = ("--state", tmp_path / "job.db", "--run-dir", tmp_path / "run")
    arguments = ("run", "-s", 2, "-w", 2, *job, *files, CLIENT, "--hold", tmp_path / "gate", "--at", 3)
    first = command(*arguments)
    for worker in (0, 1):
        first.wait_for(rf"^worker {worker} \| fit round=3 ")
    os.killpg(first.pid, signal.SIGKILL)
    again = command(*arguments)  # at once: the others of the first are still about to end
    for worker in (0, 1):
        assert again.wait_for(rf"^worker {worker} \| fit round=(\d+) client=(\d)").groups() == ("3", str(worker))
    (tmp_path / "gate").touch()
    assert again.wait() == 0, again.text
    assert "going on with the job" in again.text and f"{ROUNDS} of {ROUNDS} rounds" in again.text
    assert (tmp_path / "run-2" / "rounds.jsonl").read_text().count("\n") == ROUNDS
    third = command(*arguments)
    assert third.wait() == 0
    assert re.search(r"the job in \S+ has ended in good order after 6 rounds; .* another --state", third.text)
    assert len(third.lines) == 1 and not (tmp_path / "run-3").exists()


def test_a_second_process_with_the_state_of_one_that_lives_is_refused_before_it_joins(
    start: Callable[..., Cluster],
) -> None:
    cluster = start(servers=1, workers=1, durable=True, mode="federated", rounds=1, chunk_size=1024)
    cluster.servers[0].wait_for("^server at ")
    second = cluster.start("server", "--state", str(cluster.server_state(0)))
    assert second.wait() == 2
    assert f"is in use by process {cluster.servers[0].pid}" in second.text and "Traceback" not in second.text
    client = cluster.worker(CLIENT, PS_STATE=str(cluster.path("client")))
    assert [client.wait(), cluster.servers[0].wait(), cluster.scheduler.wait()] == [0, 0, 0]
