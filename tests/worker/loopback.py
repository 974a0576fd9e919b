"""Loopback: a whole job in one process, the real scheduler and servers in threads over loopback sockets."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ps import xp
from ps.config import ProcessConfig
from ps.server.scheduler.service import Scheduler
from ps.server.shard.service import Server
from ps.state_file import StateFile
from ps.worker import KV
from ps.worker.cluster import ClusterStore
from ps.worker.federated.store import FederatedStore
from ps.worker.session import Session
from ps.worker.step_log import StepLog

BOUND = 40.0
"""Seconds after which anything in these tests has hung."""


class Loopback:
    """A scheduler and servers in threads; workers are functions that run in threads of their own."""

    def __init__(self, tmp_path: Path, **job: Any) -> None:
        self.job = {"servers": 1, "workers": 1, "start_timeout": 20.0, "idle_timeout": 3.0, "transport": "tcp", **job}
        self._process = ProcessConfig(runtime_dir=str(tmp_path), connect_timeout=15.0)
        self._threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []
        self.address = self._spawn(Scheduler(self.job, self._process).run)
        self._process = dataclasses.replace(self._process, scheduler=self.address)
        for rank in range(self.job["servers"]):
            self._spawn(Server(dataclasses.replace(self._process, rank=rank)).run)

    def _spawn(self, run: Callable[[Callable[[str], None]], int]) -> str:
        ready: queue.Queue[str] = queue.Queue()

        def target() -> None:
            try:
                run(ready.put)
            except BaseException as error:
                self.failures.append(error)

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        self._threads.append(thread)
        return ready.get(timeout=BOUND)

    def store(self, rank: int | None = None, **process: Any) -> Any:
        session = Session(dataclasses.replace(self._process, rank=rank, **process), {})
        return (
            FederatedStore(session, StateFile(process.get("state"))) if session.job.federated else ClusterStore(session)
        )

    def connect(self, rank: int | None = None, device: xp.Device = xp.CPU, **process: Any) -> KV:
        return KV(self.store(rank, **process), device, StepLog(None))

    @contextlib.contextmanager
    def together(self, count: int) -> Iterator[list[KV]]:
        """Make several connections for this thread; a job of several workers is not complete before."""
        with ThreadPoolExecutor(count) as pool, contextlib.ExitStack() as stack:
            stores = list(pool.map(self.store, range(count)))
            yield [stack.enter_context(KV(store, xp.CPU, StepLog(None))) for store in stores]

    def work(self, *scripts: Callable[[KV], Any], device: xp.Device = xp.CPU) -> list[Any]:
        """Run one worker for each script, in rank order, and return what they return. Raises what one raises."""
        results: list[Any] = [None] * len(scripts)
        errors: list[BaseException] = []

        def worker(rank: int) -> None:
            try:
                with self.connect(rank, device) as kv:
                    results[rank] = scripts[rank](kv)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=worker, args=(rank,), daemon=True) for rank in range(len(scripts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
            assert not thread.is_alive(), "a worker hangs"
        if errors:
            raise errors[0]
        return results

    def close(self) -> None:
        """Wait for the job's end, which comes when its last worker has left."""
        for thread in self._threads:
            thread.join(BOUND)
            assert not thread.is_alive(), "the scheduler or a server goes on after the last worker has left"


def model(*shapes: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """Return random tensors named a, b, c, …"""
    random = np.random.default_rng(seed)
    return {chr(97 + i): random.standard_normal(shape).astype(dtype) for i, shape in enumerate(shapes)}
