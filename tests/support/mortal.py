"""Mortal workers: threads that are workers of a job in this process, and die at an instant that a test names.

Instants are counted: each message of a worker to a server or another worker, and each action of its schedule, is one.
Who dies does nothing any more, says goodbye to nobody, and its sockets are gone. The scheduler is told, as it finds out
by itself of processes; else each death would take a heartbeat's time-out.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ps import xp
from ps.pipeline.runner import StageRunner
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.pipeline.line_sockets import LineSockets
from ps.worker.request_queue import RequestQueue
from ps.worker.step_log import StepLog

Script = Callable[[KV], Any]


class Killed(BaseException):
    """Ends a worker's thread; no error that a worker could deal with."""


class Fate(threading.local):
    """How many instants the worker of this thread still has, and how many it has had."""

    left = -1
    had = 0

    def pass_(self) -> None:
        self.had += 1
        if self.left == 0:
            raise Killed
        self.left -= 1


FATE = Fate()


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Have instants counted."""
    places: list[tuple[Any, str]] = [(RequestQueue, "_send"), (LineSockets, "send"), (StageRunner, "run")]
    before = [getattr(owner, name) for owner, name in places]

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            FATE.pass_()
            return function(*args, **kwargs)

        return wrapped

    for (owner, name), function in zip(places, before, strict=True):
        setattr(owner, name, counting(function))
    try:
        yield
    finally:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, function)


class Crew:
    """The workers of a job; ``fates``: by the order in which they start, after how many instants one dies."""

    def __init__(self, cluster: LocalCluster, script: Script, fates: dict[int, int]) -> None:
        self.results: dict[int, Any] = {}
        """What the script returned, by rank."""
        self.errors: list[BaseException] = []
        self.died: list[int] = []
        self.instants: dict[int, int] = {}
        """By rank, how many a worker had that came to its end."""
        self._cluster, self._script, self._fates = cluster, script, fates
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        """Start so many workers; those beyond the job's are spares."""
        for number in range(len(self._threads), len(self._threads) + count):
            thread = threading.Thread(target=self._work, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """Return when all are over. Raises what one raised that did not die."""
        for thread in self._threads:
            thread.join(self._cluster.timeout)
            if thread.is_alive():
                raise TimeoutError(f"a worker hangs; {self.died} died, {sorted(self.results)} are done")
        if self.errors:
            raise self.errors[0]

    def _work(self, number: int) -> None:
        session = None
        try:
            store = self._cluster.store(number)
            session = store._session
            FATE.had, FATE.left = 0, self._fates.get(number, -1)
            with KV(store, xp.CPU, StepLog(None)) as kv:
                try:
                    self.results[kv.rank] = self._script(kv)
                except Killed:
                    self._kill(number, session)
                    raise
            self.instants[kv.rank] = FATE.had
        except Killed:
            self._kill(number, session)
        except BaseException as error:
            self.errors.append(error)

    def _kill(self, number: int, session: Any) -> None:
        if number not in self.died:
            self.died.append(number)
            FATE.left = -1
            farewell, session.farewell = session.farewell, lambda failure: None
            farewell("killed")  # which closes its lines, without a word
            session._abandon({"terminated": True})
