"""Hand: a federated client in the test's own process, with real sockets, that takes every step when it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from ps.config import ProcessConfig
from ps.protocol.layout import Layout
from ps.protocol.messages import Assign, Finished, Upload
from ps.worker.batch import Batch
from ps.worker.federated.connection import FederatedConnection
from ps.worker.federated.participation import RESUME, PendingUpload
from ps.worker.session import Session
from ps.worker.traffic import Traffic
from support.cluster import PATIENCE, Cluster

LAYOUT = Layout.of({"w": np.zeros(704, np.float32), "b": np.zeros(320, np.float32)})
"""Two chunks of 1 KiB for each of two servers, and nothing between the tensors."""
SIZE = LAYOUT.nbytes


def ones(value: float = 1.0) -> np.ndarray[Any, Any]:
    """Return a delta that has one value everywhere."""
    return np.full(SIZE // 4, value, np.float32)


class Hand:
    """One client. Every wait has a bound: those of the session, and PATIENCE for a task."""

    def __init__(self, address: str, rank: int, layout: Layout = LAYOUT) -> None:
        """Join; return when the job runs. The first one's values, all zero, are the model's."""
        self.rank = rank
        self.session = Session(ProcessConfig(scheduler=address, rank=rank), {})
        self.connection = FederatedConnection(self.session, layout, Traffic())

    def init(self) -> Hand:
        """Give the first values if this client is the one to do so."""
        layout = self.connection._layout
        if self.connection.claim():
            self.connection.seed(np.zeros(layout.nbytes, np.uint8))
        return self

    def take(self) -> Assign | None:
        """Poll until there is a task; None when all rounds are done."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.connection.poll(0, {})
            if isinstance(answer, Assign):
                return answer
            if isinstance(answer, Finished):
                return None
            self.session.pause(min(answer.seconds, 0.2))  # type: ignore[union-attr]
        raise AssertionError(f"client {self.rank} got no task")

    def upload(self, task: Assign, value: float = 1.0, chunks: Iterable[int] | None = None) -> bool:
        """Send a delta that has one value everywhere, or some chunks of it; return whether it may still count."""
        delta = ones(value).view(np.uint8)
        frames = {c.index: delta[c.offset : c.offset + c.nbytes] for c in self.connection.chunks}
        if chunks is not None:
            wanted = set(chunks)
            whole, self.connection._part.chunks = (
                self.connection.chunks,
                tuple(c for c in self.connection.chunks if c.index in wanted),
            )
            try:
                return self.connection.upload(task.task, task.round, frames, task.token)
            finally:
                self.connection._part.chunks = whole
        return self.connection.upload(task.task, task.round, frames, task.token)

    def send(self, task: Assign, delta: np.ndarray[Any, Any], length: int | None = None) -> None:
        """Send frames without asking what is there already, each cut to so many bytes if that is given."""
        self.connection.connect()
        exchange, flat, batch = self.session.exchange, delta.view(np.uint8), Batch("frames")
        for chunk in self.connection.chunks:
            whose = {"member": self.session.member, "rank": self.rank, "token": task.token}
            make = partial(Upload, task=task.task, round=task.round, **whose)
            frame = flat[chunk.offset : chunk.offset + (length or chunk.nbytes)]
            exchange.submit(batch, chunk.server, partial(make, chunk=chunk.index), frame, (0, frame.size))
        exchange.wait(batch)

    def submit(self, task: Assign, examples: float = 10.0, steps: int = 1) -> str:
        """Say that all is uploaded; return the verdict."""
        report = {"loss": 1.0 / (1 + task.round)}
        about = task.task, task.round, task.round, examples, steps, report
        return self.connection.submit(PendingUpload(*about, {}, task.token))

    def contribute(self, task: Assign, value: float = 1.0, examples: float = 10.0) -> str:
        """Upload and submit, again when a server has lost it; return the verdict."""
        while True:
            if not self.upload(task, value):
                return "late"
            verdict = self.submit(task, examples)
            if verdict != RESUME:
                return verdict

    def weights(self, version: int) -> np.ndarray[Any, Any]:
        """Return the model's values of this version or a later one: each is one more for a round of ones."""
        buffer = np.zeros(SIZE, np.uint8)
        self.connection.pull(version, buffer)
        return buffer.view(np.float32)

    def leave(self) -> None:
        """Say goodbye."""
        self.session.leave()


class Hands:
    """Clients 0, 1, … of one job, each with a thread on which it may wait for its verdict."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        self._pool = ThreadPoolExecutor(2 * count + 2)
        self.all: list[Hand] = []
        joining = [self._pool.submit(Hand, cluster.address, rank) for rank in range(count)]
        self.all = [one.result(PATIENCE) for one in joining]
        self.each(Hand.init)

    def __iter__(self) -> Any:
        return iter(self.all)

    def __getitem__(self, rank: int) -> Hand:
        return self.all[rank]

    def later(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call a function on another thread."""
        return self._pool.submit(function, *args)

    def each(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call a function with every client at once; return what it returned."""
        futures = [self._pool.submit(function, hand, *args) for hand in self.all]
        return [future.result(PATIENCE) for future in futures]

    def close(self) -> None:
        """Say goodbye for all who have not."""
        for hand in self.all:
            hand.leave()
        self._pool.shutdown(wait=False, cancel_futures=True)
