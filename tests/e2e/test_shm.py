"""Shared memory between real processes: the bits of tcp, no torn or stale read, and nothing left after any death."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ps.protocol.directory import YOUNG, PrivateDirectory
from support.cluster import PSCTL, SCRIPTS, Cluster, Process, is_running, live_workers, result, wait_until
from support.held import descriptors, mappings
from support.long import cases

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Start = Callable[..., Cluster]
COUNTING, BITS = str(SCRIPTS / "counting.py"), str(SCRIPTS / "bits.py")
SLOW = "PS_TEST_SLOW" in os.environ
"""Whether to race for a minute and to kill dozens of times; otherwise it is seconds and a few."""


def ends(processes: Sequence[Process], code: int = 0) -> None:
    """Wait for all and demand their exit code, and that no script found anything wrong."""
    found = [process.wait() for process in processes]
    broken = [line for process in processes for line in process.lines if line.startswith("BROKEN")]
    assert not broken, broken
    assert found == [code] * len(found), [process.text[-1500:] for process in processes]


def crew(cluster: Cluster, count: int, script: str, *args: object, apart: int | None = None) -> list[Process]:
    """Start workers with ranks; the one that is ``apart`` can open no Unix socket, as in a container."""
    return [
        cluster.worker(script, *args, rank=rank, **({"APART": "1"} if rank == apart else {})) for rank in range(count)
    ]


# The same bits

TRANSPORTS: dict[str, tuple[dict[str, Any], int | None]] = {
    "tcp": ({"transport": "tcp"}, None),
    "in place": ({"transport": "shm"}, None),
    "private": ({"transport": "shm", "params": "private"}, None),
    "mixed": ({"transport": "auto"}, 1),
}


def test_every_clock_has_the_same_bits_over_every_transport(start: Start) -> None:
    workers = 2
    job = {"optimizer": "momentum:lr=0.1", "clip_norm": 5.0, "on_nan": "skip"}
    digests = {}
    for name, (more, apart) in TRANSPORTS.items():
        cluster = start(servers=2, workers=workers, chunk_size=4096, heartbeat_timeout=10, **job, **more)
        found = crew(cluster, workers, BITS, 15, apart=apart)
        ends(found)
        said = [result(worker) for worker in found]
        digests[name] = {end["digest"] for end in said}
        over = ["tcp" if name == "tcp" or rank == apart else "shm" for rank in range(workers)]
        assert [end["ways"] for end in said] == over
        placed = [name in ("in place", "mixed") and way == "shm" for way in over]
        assert [end["placed"] == "True" for end in said] == placed or name == "mixed"
        cluster.close()
    assert len(set.union(*digests.values())) == 1, digests


def test_one_that_comes_later_and_shares_no_memory_takes_the_large_chunks_of_those_that_do(start: Start) -> None:
    cluster = start(workers=2, optimizer="sgd:lr=1", heartbeat_timeout=10)
    stop, size = cluster.path("stop"), ("--size", 2_500_000)
    workers = crew(cluster, 2, COUNTING, stop, *size, "--nap", 0.02)
    for worker in workers:
        worker.wait_for("^clock")
    workers.append(cluster.worker(COUNTING, stop, *size, rank=2, APART="1"))
    workers[2].wait_for("^clock")
    job = cluster.status()["job"]
    stop.touch()
    ends(workers)
    assert (job["chunk_size"], job["window"]) == (32 << 20, 64 << 20)


# Racing


@pytest.mark.parametrize(("mode", "args"), [("sync", ()), ("async", ("--push",)), ("ssp", ("--push",))])
def test_no_read_is_torn_or_stale_and_nothing_moves_while_others_write(
    start: Start, mode: str, args: tuple[str, ...]
) -> None:
    job = {"mode": mode, "transport": "shm", "chunk_size": 1 << 20, "optimizer": "sgd:lr=1", "heartbeat_timeout": 10}
    cluster = start(servers=2, workers=3, **job)
    stop = cluster.path("stop")
    workers = crew(cluster, 3, COUNTING, stop, "--size", 600_000, "--fork", "--barriers", 50, *args)
    for worker in workers:
        worker.wait_for("^ready")
    time.sleep(60 if SLOW else 1.5)  # the race itself
    stop.touch()
    ends(workers)
    assert all(int(result(worker)["clock"]) > 5 for worker in workers)


def test_in_sync_nothing_moves_under_slow_workers_in_barriers_and_after_leaving(start: Start) -> None:
    cluster = start(servers=2, workers=3, chunk_size=4096, optimizer="sgd:lr=1", heartbeat_timeout=10)
    workers = crew(cluster, 3, COUNTING, 60, "--nap", 0.02, "--barriers", 13, "--leave", "1:25", "--leave", "0:40")
    ends(workers)
    assert [result(worker)["clock"] for worker in workers] == ["40", "25", "60"]
    assert [result(worker)["value"] for worker in workers] == ["40", "25", "60"]


def clock_of(worker: Process) -> int:
    """The last clock that a worker said."""
    return next((int(line.split()[1]) for line in reversed(list(worker.lines)) if line.startswith("clock ")), 0)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_server_holds_after_many_steps_what_it_held_at_first(start: Start, mode: str) -> None:
    steps = 20_000 if SLOW else cases(600, 1600)
    cluster = start(workers=2, chunk_size=4096, mode=mode, optimizer="sgd:lr=1", heartbeat_timeout=10)
    [server], stop = cluster.servers, cluster.path("stop")
    workers = crew(cluster, 2, COUNTING, stop, "--size", 3000)
    seen = []
    for clock in (steps // 4, steps):
        wait_until(lambda: min(map(clock_of, workers)) >= clock, 60 if not SLOW else 600)  # noqa: B023
        seen.append((descriptors(server.pid), mappings(server.pid), server.rss()))
    stop.touch()
    ends(workers)
    assert seen[0][:2] == seen[1][:2]
    assert seen[1][2] - seen[0][2] < 800 * (steps - steps // 4), seen


# Deaths


def own_processes(cluster: Cluster) -> list[int]:
    """Every process that was started with this cluster's directory or by one of its own, whoever started it."""
    found, mark, roles = [], str(cluster.directory).encode(), {process.pid for process in cluster.processes}
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        with contextlib.suppress(OSError):
            ours = mark in (path / "environ").read_bytes() or os.getsid(pid) in roles
            if ours and is_running(pid):
                found.append(pid)
    return found


def nothing_is_left(cluster: Cluster) -> None:
    """Demand that nothing is left of a cluster whose processes have all ended or been killed."""
    wait_until(lambda: not own_processes(cluster))
    assert not [path for path in Path("/dev/shm").iterdir() if path.name.startswith(("ps", "memfd"))]
    old = time.time() - 2 * YOUNG
    for path in cluster.directory.glob("ps-*"):
        os.utime(path, (old, old))
    fresh = PrivateDirectory(str(cluster.directory)).path  # as the next process that starts here makes one
    assert list(cluster.directory.glob("ps-*")) == [fresh]


def named_memory(process: Process) -> list[str]:
    """Return the mappings of a process that have a name in /dev/shm, where something could stay."""
    return [line for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines() if "/dev/shm/" in line]


def attacked(start: Start, workers: int = 3, **job: Any) -> tuple[Cluster, list[Process], Path]:
    given = {"servers": 2, "chunk_size": 4096, "transport": "shm", "optimizer": "sgd:lr=1", **job}
    cluster = start(workers=workers, **given)
    stop = cluster.path("stop")
    return cluster, crew(cluster, workers, COUNTING, stop, "--nap", 0.003), stop


SEEDS = range(20) if SLOW else range(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_kill_9_of_a_worker_the_others_go_on_with_right_weights_and_nothing_is_left(
    start: Start, seed: int
) -> None:
    dice = random.Random(seed)
    cluster, workers, stop = attacked(start)
    for worker in workers:
        worker.wait_for("^ready")
    time.sleep(dice.random() * 0.5)
    victim = workers.pop(dice.randrange(3))
    held = mappings(cluster.servers[0].pid)
    victim.kill()
    before = max(live["clock"] for live in live_workers(cluster.status()))
    cluster.wait_status(lambda status: status["deaths"])
    cluster.wait_clock(before + 20)
    assert mappings(cluster.servers[0].pid) < held, "the server still maps what only the dead one used"
    assert not any(named_memory(process) for process in (*workers, *cluster.servers))
    stop.touch()
    ends([*workers, cluster.scheduler, *cluster.servers])
    nothing_is_left(cluster)


@pytest.mark.parametrize("seed", SEEDS[:1] if not SLOW else SEEDS)
def test_after_kill_9_of_a_server_all_end_with_4_and_nothing_is_left(start: Start, seed: int) -> None:
    dice = random.Random(seed)
    cluster, workers, _ = attacked(start)
    for worker in workers:
        worker.wait_for("^ready")
    time.sleep(dice.random() * 0.5)
    victim = cluster.servers.pop(dice.randrange(2))
    victim.kill()
    killed = time.monotonic()
    ends([*workers, cluster.scheduler, *cluster.servers], 4)
    assert time.monotonic() - killed < 15
    nothing_is_left(cluster)


def test_after_kill_9_of_the_scheduler_the_steps_go_on(start: Start) -> None:
    cluster, workers, stop = attacked(start)
    for worker in workers:
        worker.wait_for("^clock")
    cluster.scheduler.kill()
    said = [len(worker.lines) for worker in workers]
    wait_until(lambda: all(len(worker.lines) > before + 3 for worker, before in zip(workers, said, strict=True)))
    stop.touch()
    ends(workers)
    for server in cluster.servers:
        server.kill()
    nothing_is_left(cluster)


@pytest.mark.parametrize("seed", range(40) if SLOW else range(2))
def test_after_kill_9_of_everything_at_any_moment_nothing_is_left(start: Start, seed: int) -> None:
    dice = random.Random(seed)
    cluster, workers, _ = attacked(start, heartbeat_timeout=10)
    time.sleep(dice.random() * 2.5)  # most often while they join and hand memory over
    everybody = [cluster.scheduler, *cluster.servers, *workers]
    dice.shuffle(everybody)
    for process in everybody:
        process.signal(signal.SIGKILL)
    assert [process.wait() for process in everybody] == [-signal.SIGKILL] * 6
    nothing_is_left(cluster)


def test_a_worker_that_slept_too_long_over_weights_in_place_ends_with_4_and_costs_the_others_nothing(
    start: Start,
) -> None:
    cluster = start(servers=2, workers=3, chunk_size=4096, optimizer="sgd:lr=1", transport="shm", hang_timeout=1.5)
    stop = cluster.path("stop")
    workers = crew(cluster, 3, COUNTING, stop, "--nap", 0.003, "--blind", 1)
    for worker in workers:
        worker.wait_for("^clock")
    workers[1].stop()
    before = max(live["clock"] for live in live_workers(cluster.status()))
    cluster.wait_status(lambda status: status["deaths"])
    cluster.wait_clock(before + 30)
    workers[1].resume()
    assert workers[1].wait() == 4, workers[1].text
    assert "declared" in workers[1].text and "dead" in workers[1].text
    stop.touch()
    ends([workers[0], workers[2]])


def test_a_server_that_stands_still_while_memory_is_handed_over_is_reached_another_way(start: Start) -> None:
    cluster = start(servers=2, workers=2, chunk_size=4096, optimizer="sgd:lr=1", heartbeat_timeout=30)
    cluster.wait_status(lambda status: len(status["servers"]) == 2)
    cluster.servers[1].stop()
    workers = crew(cluster, 2, COUNTING, 30, "--nap", 0.003)

    def why(worker: Process) -> list[str]:
        return [line for line in list(worker.lines) if "no shared memory" in line]

    wait_until(lambda: any(map(why, workers)))  # the one that seeds; the other waits for it
    cluster.servers[1].resume()
    ends(workers)
    said = [line for worker in workers for line in why(worker)]
    assert "server 1" in said[0] and "no answer within 5 s" in said[0] and "using ipc://" in said[0]
    assert max(len(why(worker)) for worker in workers) == 1


def test_a_worker_that_cannot_share_memory_where_that_was_demanded_ends_with_7(start: Start) -> None:
    cluster = start(workers=1, transport="shm")
    [worker] = crew(cluster, 1, COUNTING, 5, apart=0)
    assert worker.wait() == 7
    assert "server 0" in worker.text and "cannot be reached by shm" in worker.text and "--transport auto" in worker.text
    assert "Traceback" not in worker.text


# What people see


def test_status_and_ping_know_a_server_that_shares_memory(start: Start) -> None:
    cluster = start(workers=2, optimizer="sgd:lr=1", transport="shm", heartbeat_timeout=10)
    stop = cluster.path("stop")
    workers = crew(cluster, 2, COUNTING, stop, "--nap", 0.03)
    for worker in workers:
        worker.wait_for("^clock")
    [server] = cluster.status()["servers"]
    ways = sorted(address.partition("://")[0] for address in server["addresses"])
    assert ways == ["ipc", "shm", "tcp", "unix"]

    def psctl(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*PSCTL, *args], capture_output=True, text=True, env=cluster.env, timeout=30)

    shown = psctl("status", "--scheduler", cluster.address)
    assert shown.returncode == 0 and "server 0" in shown.stdout and "rejected" not in shown.stdout
    for address in server["addresses"]:
        done = psctl("ping", address)
        if address.startswith(("shm:", "unix:")):
            assert done.returncode == 2 and "is no address" in done.stderr
        else:
            assert done.returncode == 0 and "server 0" in done.stdout, done
    stop.touch()
    ends(workers)
