"""With standbys a server may be killed, or stand still, and training goes on with the bits of an undisturbed run."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ps.protocol.query import fetch_status
from support.cluster import Cluster, Process, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TIMEOUT = 2.0
SLACK = 6.0
"""Seconds for a machine that does much else."""
SCRIPT = str(Path(__file__).parent / "scripts" / "replicated.py")


def servers(address: str) -> list[dict[str, Any]]:
    return [row for row in fetch_status(address)["servers"] if row["state"] == "live"]


def await_protection(address: str, count: int = 2) -> list[dict[str, Any]]:
    """Return the servers once each has a standby with all of its part, which the scheduler knows."""
    wait_until(lambda: [row.get("replica") for row in servers(address)].count("protecting") == count)
    time.sleep(0.3)  # it is said with the next word to the scheduler
    return servers(address)


def begin(forked: Callable[..., Process], steps: int, *options: object, nap: float = 0.02) -> tuple[Process, str]:
    given = ("-s", 2, "-w", 2, "--replicas", 1, "--heartbeat-timeout", TIMEOUT, *options)
    run = forked("run", *given, SCRIPT, steps, nap)
    return run, run.wait_for(r"scheduler at (tcp://\S+)")[1]


def result(run: Process) -> tuple[str, float]:
    """Return the checksum of the weights in the end, and the longest step in seconds."""
    found = re.search(r"weights (\d+), longest step ([\d.]+) s", run.text)
    assert found is not None, run.text
    return found[1], float(found[2])


def undisturbed(forked: Callable[..., Process], steps: int, *options: object) -> str:
    run = forked("run", "-s", 2, "-w", 2, *options, SCRIPT, steps, 0)
    assert run.wait() == 0, run.text
    return result(run)[0]


@pytest.mark.parametrize(
    "options",
    [(), ("--transport", "tcp", "--clip-norm", 1), ("--compress", "topk:0.1")],
    ids=["shared memory", "tcp, clipped", "compressed"],
)
def test_a_killed_server_is_replaced_and_the_bits_are_those_of_an_undisturbed_run(
    forked: Callable[..., Process], options: tuple[object, ...]
) -> None:
    run, address = begin(forked, 150, *options)
    for rank in (0, 1):  # the second time what was filled beside the training goes on
        rows = await_protection(address)
        time.sleep(random.Random(rank).random() / 5)
        os.kill(next(row["pid"] for row in rows if row["rank"] == rank), signal.SIGKILL)
        run.wait_for(f"goes on as server {rank}")
    assert run.wait(60) == 0, run.text
    bits, longest = result(run)
    assert longest < TIMEOUT + 1 + SLACK
    assert bits == undisturbed(forked, 150, *options)


@pytest.mark.parametrize("transport", ["auto", "tcp"])
def test_a_server_that_stood_still_is_refused_when_it_wakes(forked: Callable[..., Process], transport: str) -> None:
    run, address = begin(forked, 200, "--transport", transport, "--restarts", 1)
    rows = await_protection(address)
    pid = next(row["pid"] for row in rows if row["rank"] == 0)
    os.kill(pid, signal.SIGSTOP)
    try:
        run.wait_for("goes on as server 0", TIMEOUT + 1 + SLACK)
    finally:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:  # its standby has killed it, since memory is shared
            assert transport == "auto"
    run.wait_for("starting it again")
    assert run.wait(60) == 0, run.text
    assert result(run)[0] == undisturbed(forked, 200, "--transport", transport)


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_in_other_modes_training_goes_on_too(forked: Callable[..., Process], mode: str) -> None:
    run, address = begin(forked, 150, "--mode", mode)
    rows = await_protection(address)
    os.kill(next(row["pid"] for row in rows if row["rank"] == 1), signal.SIGKILL)
    assert run.wait(60) == 0, run.text
    assert result(run)[1] < TIMEOUT + 1 + SLACK


def test_a_second_death_before_there_is_another_copy_ends_the_job_with_4(forked: Callable[..., Process]) -> None:
    run, address = begin(forked, 100_000, "--restarts", 0)
    rows = await_protection(address)
    os.kill(next(row["pid"] for row in rows if row["rank"] == 0), signal.SIGKILL)
    run.wait_for("goes on as server 0")
    os.kill(next(row["pid"] for row in rows if row["rank"] == 2), signal.SIGKILL)
    assert run.wait(30) == 4, run.text
    assert "and there was no standby" in run.text


def test_scheduler_and_server_killed_at_once_cost_nothing_either(start: Callable[..., Cluster]) -> None:
    cluster = start(servers=2, joining=4, workers=2, replicas=1, state=True, heartbeat_timeout=TIMEOUT)
    workers = [cluster.worker(SCRIPT, 300, 0.02, rank=rank) for rank in range(2)]
    await_protection(cluster.address)
    cluster.scheduler.kill()
    cluster.servers[0].kill()
    cluster.start_scheduler()
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert "goes on as server 0" in "".join(process.text for process in cluster.servers)
    assert result(workers[0])[1] < 2 * TIMEOUT + 1 + SLACK
