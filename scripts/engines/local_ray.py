"""LocalRay: a Ray cluster of several nodes on this host, for trials: a head and raylets, each with its own CPUs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEMORY = 80 << 20
"""Bytes of a node's object store, which nothing here uses."""
TRIES = 4


def missing() -> str:
    """Return why there can be no such cluster here; nothing if there can."""
    return "" if importlib.util.find_spec("ray") else "not installed: ray (pip install 'paramserver[ray]')"


@dataclass
class LocalRay:
    """A running cluster; ``address`` is its head's."""

    cluster: Any
    cpus: int
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What a job is given to find it."""
        return str(self.cluster.address)

    def add_node(self) -> None:
        """Start a raylet."""
        self.nodes.append(_started(lambda: self.cluster.add_node(num_cpus=self.cpus, object_store_memory=MEMORY)))

    def lose_node(self, pids: list[int]) -> str:
        """Kill the raylet under whose actors these processes are, and nothing else; return its id."""
        for node in list(self.nodes):
            raylet = node.all_processes["raylet"][0].process.pid
            if any(raylet in _ancestors(pid) for pid in pids):
                self.nodes.remove(node)
                self.cluster.remove_node(node, allow_graceful=False)
                return str(node.unique_id)
        raise LookupError(f"no node of this cluster has {pids}")


@contextlib.contextmanager
def local_ray(nodes: int = 3, cpus: int = 4) -> Iterator[LocalRay]:
    """Have such a cluster for a while: a head without CPUs for actors, and so many nodes."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder, _environment(RAY_TMPDIR=folder):
        (Path(folder) / "ray").mkdir()  # where a cluster writes its address before it makes anything
        found = LocalRay(_started(lambda: Cluster(initialize_head=True, head_node_args=head)), cpus)
        try:
            for _ in range(nodes):
                found.add_node()
            yield found
        finally:
            found.cluster.shutdown()


@contextlib.contextmanager
def _environment(**names: str) -> Iterator[None]:
    """Have these variables, and none with the address of another cluster, for a while."""
    before = dict(os.environ)
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(names)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _started(make: Callable[[], Any]) -> Any:
    """Return what is made. Ray gives a node 30 s to start, which a busy host may not have: it is tried again."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Exception):
            return make()
    return make()


def wait_for(reached: Callable[[], bool], what: str, limit: float = 60.0) -> None:
    """Return once something is so. Raises TimeoutError."""
    deadline = time.monotonic() + limit
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} after {limit:g} s")
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """Kill a process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def parent(pid: int) -> int:
    """Return a process's parent; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _ancestors(pid: int) -> list[int]:
    found = []
    while (pid := parent(pid)) > 1:
        found.append(pid)
    return found
