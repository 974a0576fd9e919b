"""Pool: worker processes that share out the clients, given tasks ahead of time and asked for results when they count.

Client c lives in process c modulo the number of processes: what it keeps from task to task never moves.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from types import TracebackType

from ps.dataclass import dataclass
from ps.errors import ConnectTimeout, PeerLost, StateError, UsageError
from ps.simulate.arrays import SharedArrays
from ps.simulate.plan import TrainingPlan
from ps.simulate.task import TrainingResult, TrainingTask
from ps.simulate.vectorized import MOST
from ps.simulate.worker_process import WorkerProcess
from ps.xp import HostArray

ROOM = 256 << 20
"""Bytes of results, at most, that are computed before anybody asks for them."""


class Pool:
    """Trains clients in ``processes`` child processes, which end with this one."""

    def __init__(
        self,
        plan: TrainingPlan,
        data: Mapping[str, HostArray],
        processes: int = 2,
        room: int = ROOM,
        patience: float = 600.0,
    ) -> None:
        """``data``: x_train, y_train, x_test and y_test. ``patience``: seconds after which silence is an error."""
        if processes < 1:
            raise UsageError(f"{processes} processes: clients need at least 1 to be computed in")
        self._ahead = max(2 * processes, room // max(1, plan.layout.nbytes))
        self._patience = patience
        self._remembers = plan.remembers
        self._waiting: list[tuple[float, int, TrainingTask]] = []
        self._alive: dict[int, TrainingTask] = {}
        self._sent: set[int] = set()
        self._versions: dict[int, _Version] = {}
        self._arrival = threading.Condition()
        self._results: dict[int, TrainingResult] = {}
        self._lost = ""
        self._shared = SharedArrays.of(data)
        self._processes: list[WorkerProcess] = []
        try:
            share = -(-self._ahead // processes)
            for number in range(processes):
                self._processes.append(WorkerProcess(number, plan, self._shared, self._arrived, self._gone, share))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [process.pid for process in self._processes]

    def publish(self, version: int, weights: HostArray) -> None:
        """Say what the weights of a version are: uint8, which is copied. Tasks are of the latest or older versions."""
        self._versions[version] = _Version(weights.copy())
        for old in [each for each in self._versions if each != version]:
            self._release(old)

    def give(self, task: TrainingTask, due: float) -> None:
        """Hand a task over, to be settled some time; what is ``due`` first is computed first."""
        if task.version not in self._versions:
            raise StateError(f"task {task.ticket} begins with version {task.version}, which was not published")
        self._versions[task.version].tasks += 1
        self._alive[task.ticket] = task
        heapq.heappush(self._waiting, (due, task.ticket, task))
        if len(self._waiting) >= MOST * len(self._processes):  # there is a group for each while others are told
            self._send()

    def take(self, ticket: int) -> TrainingResult:
        """Return the result of a task, once, waiting for it. PeerLost when a process is gone."""
        if ticket not in self._alive:
            raise StateError(f"task {ticket} was not given to the pool, or is settled")
        if ticket not in self._sent:
            self._send(ticket)
        end = time.monotonic() + self._patience
        with self._arrival:
            while ticket not in self._results:
                who = f"client {self._alive[ticket].client}"
                if self._lost:
                    raise PeerLost(f"{self._lost}; {who} was to be computed there or elsewhere")
                if not self._arrival.wait(max(0.0, end - time.monotonic())):
                    raise ConnectTimeout(f"no result of {who} after {self._patience:g} s")
            return self._results.pop(ticket)

    def settle(self, ticket: int, accepted: bool) -> None:
        """Say what became of a task that was given, computed or not: what its client keeps depends on it."""
        with self._arrival:
            given = self._alive.pop(ticket)
            self._results.pop(ticket, None)
        if ticket in self._sent and self._remembers:
            self._process_of(given).send("settle", ticket, accepted)
        self._sent.discard(ticket)
        self._versions[given.version].tasks -= 1
        if given.version != max(self._versions):
            self._release(given.version)

    def close(self) -> None:
        """End the processes; closing twice does nothing."""
        while self._processes:
            self._processes.pop().close()

    def _send(self, needed: int | None = None) -> None:
        """Send what is waiting to the processes as long as there is room for results, and ``needed`` in any case."""
        orders: dict[int, list[TrainingTask]] = {}
        while self._waiting and (len(self._sent) < self._ahead or not (needed is None or needed in self._sent)):
            _, ticket, task = heapq.heappop(self._waiting)
            if ticket in self._alive:
                self._sent.add(ticket)
                orders.setdefault(task.client % len(self._processes), []).append(task)
        for place, tasks in orders.items():
            process = self._processes[place]
            for version in sorted({task.version for task in tasks}):
                found = self._versions[version]
                if place not in found.holders:
                    found.holders.add(place)
                    process.send("weights", version, frames=[found.weights])
            process.train(tasks)

    def _release(self, version: int) -> None:
        if not self._versions[version].tasks:
            for place in self._versions.pop(version).holders:
                self._processes[place].send("forget", version)

    def _process_of(self, task: TrainingTask) -> WorkerProcess:
        return self._processes[task.client % len(self._processes)]

    def _arrived(self, results: Sequence[TrainingResult]) -> None:
        with self._arrival:
            self._results.update((result.ticket, result) for result in results if result.ticket in self._alive)
            self._arrival.notify_all()

    def _gone(self, why: str) -> None:
        with self._arrival:
            self._lost = self._lost or why
            self._arrival.notify_all()


@dataclass(slots=True)
class _Version:
    """Weights that tasks begin with: how many of these are not settled, and which processes have them."""

    weights: HostArray
    tasks: int = 0
    holders: set[int] = field(default_factory=set)
