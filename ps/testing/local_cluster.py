"""LocalCluster: a whole job in one process, the real scheduler and servers in threads over loopback sockets."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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


class LocalCluster:
    """A scheduler and servers in threads; workers are functions that run in threads of their own.

    Everything is as in a cluster of processes but for shared memory between them, and that one interpreter does all
    the work. ``timeout``: seconds after which anything in it has hung, and TimeoutError is raised.
    """

    def __init__(self, folder: Path | None = None, timeout: float = 40.0, **job: Any) -> None:
        """``folder``: for Unix sockets, a new one unless given. ``job``: settings, as for ``ps.connect``."""
        self.job = {"servers": 1, "workers": 1, "start_timeout": 20.0, "idle_timeout": 3.0, "transport": "tcp", **job}
        self.failures: list[BaseException] = []
        """What ended the scheduler or a server early."""
        self.timeout = timeout
        self._closing = contextlib.ExitStack()
        if folder is None:
            folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="ps-")))
        self._process = ProcessConfig(runtime_dir=str(folder), connect_timeout=15.0)
        self._threads: list[threading.Thread] = []
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
        return ready.get(timeout=self.timeout)

    def store(self, rank: int | None = None, **process: Any) -> Any:
        """Join as a worker; return the store under its KV. ``process``: settings of the worker's process."""
        session = Session(dataclasses.replace(self._process, rank=rank, **process), {})
        if session.job.federated:
            return FederatedStore(session, StateFile(process.get("state")))
        return ClusterStore(session)

    def connect(self, rank: int | None = None, device: xp.Device = xp.CPU, **process: Any) -> KV:
        """Join as a worker, as ``ps.connect`` does; returns once all members of the job are there."""
        return KV(self.store(rank, **process), device, StepLog(process.get("run_dir")))

    @contextlib.contextmanager
    def together(self, count: int) -> Iterator[list[KV]]:
        """Make several connections for this thread; a job of several workers is not complete before."""
        with ThreadPoolExecutor(count) as pool, contextlib.ExitStack() as stack:
            stores = list(pool.map(self.store, range(count)))
            yield [stack.enter_context(KV(store, xp.CPU, StepLog(None))) for store in stores]

    def run(self, *scripts: Callable[[KV], Any], device: xp.Device = xp.CPU, **process: Any) -> list[Any]:
        """Run one worker for each script, in rank order, and return what they return. Raises what one raises.

        ``process``: settings of the workers' processes.
        """
        results: list[Any] = [None] * len(scripts)
        errors: list[BaseException] = []

        def worker(rank: int) -> None:
            try:
                with self.connect(rank, device, **process) as kv:
                    results[rank] = scripts[rank](kv)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=worker, args=(rank,), daemon=True) for rank in range(len(scripts))]
        for thread in threads:
            thread.start()
        self._join(threads, "a worker hangs")
        if errors:
            raise errors[0]
        return results

    def _join(self, threads: list[threading.Thread], complaint: str) -> None:
        for thread in threads:
            thread.join(self.timeout)
            if thread.is_alive():
                raise TimeoutError(f"{complaint}, after {self.timeout:g} s")

    def close(self) -> None:
        """Wait for the job's end, which comes when its last worker has left."""
        with self._closing:
            self._join(self._threads, "the scheduler or a server goes on after the last worker has left")

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
