"""A process that stands still while megabytes flow to it, for longer than a dead host may be deaf: nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.protocol.sockets import DEAF
from support.cluster import SCRIPTS, Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Start = Callable[..., Cluster]
TRIES = 10
"""Times to stop it, at most, until that is in the midst of a transfer."""
NAP = 0.5
"""Seconds between the steps of a worker, at most."""
LARGE = 64 << 10
"""Bytes that wait to be sent where the other end takes none."""


def more_than_the_kernel_holds() -> int:
    """Return bytes of which some still wait to be sent where the kernel keeps what it can at both ends."""
    limits = (Path(f"/proc/sys/net/ipv4/tcp_{name}mem").read_text().split()[2] for name in "rw")
    return max(20_000_000, sum(map(int, limits)) * 5 // 4)


def held_up(port: int) -> bool:
    """Whether much waits in a connection with this port, and none of it goes."""
    before = _waiting(port)
    time.sleep(0.2)
    after = _waiting(port)
    return any(size > LARGE and before.get(line) == size for line, size in after.items())


def _waiting(port: int) -> dict[tuple[str, str], int]:
    found = {}
    rows = [row for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    for row in rows:
        here, there, _, queues = row.split()[1:5]
        if any(end.endswith(f":{port:04X}") for end in (here, there)):
            found[here, there] = int(queues.split(":")[0], 16)
    return found


def has_nothing_to_do(pid: int, seconds: float = 0.1) -> bool:
    """Whether a process waits, nine of ten times that it is looked at in so many seconds."""
    states = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        time.sleep(0.02)
    return states.count("S") >= 0.9 * len(states)


def soon(holds: Callable[[], bool]) -> bool:
    """Return whether something holds within what that takes on a busy machine."""
    end = time.monotonic() + 4.0
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


@pytest.mark.parametrize("who", ["worker", "server"])
def test_a_process_that_stands_still_in_the_midst_of_a_transfer_costs_nothing_but_time(start: Start, who: str) -> None:
    size = more_than_the_kernel_holds()
    given = {
        "transport": "tcp",
        "heartbeat_timeout": 60,
        "chunk_size": 1 << 20,
        "window": 2 * size,
        "optimizer": "sgd:lr=1",
    }
    cluster = start(workers=2, **given)
    script, gate = str(SCRIPTS / "counting.py"), cluster.path("gate")
    arguments = (gate, "--size", size // 4, "--nap", NAP)  # so that they stand mostly before a push, with all to send
    workers = [cluster.worker(script, *arguments, rank=rank) for rank in range(2)]
    cluster.wait_clock(1)
    port = int(cluster.servers[0].wait_for(r"server at \S+:(\d+)")[1])
    stopped = workers[1] if who == "worker" else cluster.servers[0]
    for _ in range(TRIES):
        if who == "worker":  # which has sent all that it has to, and is answered when it stands still
            workers[0].stop()
            soon(lambda: has_nothing_to_do(stopped.pid, 3 * NAP))  # for longer than it naps
            stopped.stop()
            workers[0].resume()
        else:  # when it has answered all that it can: the workers go on with a push, which nobody takes
            for worker in workers:
                worker.stop()
            soon(lambda: has_nothing_to_do(stopped.pid))
            stopped.stop()
            for worker in workers:
                worker.resume()
        if soon(lambda: held_up(port)):
            break
        stopped.resume()  # hardly anything was on its way at that instant
    assert held_up(port), "nothing was ever on its way when it stood still"
    time.sleep(1.5 * DEAF)
    stopped.resume()
    clock = max(row["clock"] for row in cluster.status()["workers"])
    cluster.wait_clock(clock + 3)
    gate.touch()
    assert [worker.wait() for worker in workers] == [0, 0], [worker.text for worker in workers]
