"""AmongLiars: the lives of workers of ours among servers and a scheduler that lie, in a time of theirs.

A worker is the real one, from the script's verbs down to its channels, but without its thread, and time passes only
while it waits. It must go on, or end with one named error.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import zmq

import ps
from ps.config import ProcessConfig
from ps.errors import BadMessage, PSError
from ps.protocol import messages as m
from ps.protocol.codec import decode, encode
from ps.protocol.membership import Membership
from ps.protocol.sockets import Socket
from ps.worker import KV, cluster, exchange, leases, request_ahead, scheduler_client, session
from ps.worker.cluster import ClusterStore
from ps.worker.federated import store as federated_store
from ps.worker.federated.store import FederatedStore
from ps.worker.scheduler_client import SchedulerClient
from ps.worker.session import Session
from ps.worker.step_log import StepLog
from ps.xp import CPU
from support.lying import DATA, PARAMS, Liars

MOST_TEXT = 3000
"""Characters of an error by which a worker may end."""


class Poller:
    """What a worker waits in."""

    def __init__(self, liars: Liars) -> None:
        self._liars = liars
        self.sockets: dict[Any, int] = {}

    def register(self, pollable: Any, flags: int) -> None:
        self.sockets[pollable] = flags

    def unregister(self, pollable: Any) -> None:
        del self.sockets[pollable]

    def __contains__(self, pollable: Any) -> bool:
        return pollable in self.sockets

    def poll(self, milliseconds: int) -> list[tuple[Any, int]]:
        self._liars.pump()
        ready = zmq.Poller()
        for pollable, flags in self.sockets.items():
            ready.register(pollable, flags)
        events = ready.poll(0)
        if not events:
            self._liars.waiting(milliseconds / 1000)
        return events


class Client(SchedulerClient):
    """The worker's conversation with the scheduler, on the script's own thread: done whenever the script waits."""

    def __init__(
        self, liars: Liars, context: zmq.Context[Socket], membership: Membership, report: Callable[[], dict[str, Any]]
    ) -> None:
        self._liars, liars.client = liars, self
        self._here: deque[m.Message] = deque()
        self._hearing = False
        super().__init__(context, membership, report)
        self._thread.join()
        self._changed = cast("Any", Changed(liars))
        self.beat()

    def _run(self) -> None:
        pass

    def send(self, member: int, header: bytes | None) -> None:
        if header is None:
            self._dealer.close()
            self._bell.close()
        elif self._failure is None and member == self.member:
            self.hear(self._liars.schedule(decode(header)))

    def _out(self, header: bytes) -> None:
        self.hear(self._liars.schedule(decode(header)))

    def hear(self, messages: list[m.Message]) -> None:
        """Take what the scheduler says, as the thread does."""
        self._here += messages
        if self._hearing:
            return
        self._hearing = True
        while self._here:
            with contextlib.suppress(BadMessage):  # too long to be said
                self._listen(encode(self._here.popleft()))
        self._hearing = False

    def _listen(self, header: bytes) -> None:
        try:
            if self._failure is None:
                self._take(self._read(header))
        except PSError as error:
            self._fail(error)

    def beat(self) -> None:
        """Do what the thread does now and then."""
        try:
            if self._failure is None:
                self._membership.report = self._report()
                for message in () if self._leaving else self._membership.tick(self._liars.now):
                    self._out(encode(message))
                self._membership.silence_notice(self._liars.now)
        except PSError as error:
            self._fail(error)


class Changed:
    """What the script waits for while it waits for news."""

    def __init__(self, liars: Liars) -> None:
        self._liars = liars

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def wait(self, seconds: float) -> None:
        self._liars.waiting(seconds)

    def notify_all(self) -> None: ...


class Answers(deque[Any]):
    """A queue that nobody else fills while one waits for it."""

    liars: Liars

    put = deque.append

    def get(self, timeout: float) -> Any:
        if not self:
            self.liars.waiting(timeout)
        if not self:
            raise queue.Empty
        return self.popleft()


@contextlib.contextmanager
def _among(liars: Liars) -> Iterator[None]:
    """Have a worker live among liars, in their time."""
    time = SimpleNamespace(monotonic=liars.monotonic, sleep=liars.sleep)
    answers = type("Answers", (Answers,), {"liars": liars})
    dial = SimpleNamespace(again=lambda now: "")
    patched: list[tuple[Any, str, Any]] = [
        (session, "time", time),
        (session, "open_channels", liars.open_channels),
        (session, "SchedulerClient", partial(Client, liars)),
        (session, "Exchange", lambda *a, **k: exchange.Exchange(*a, **k, poller=Poller(liars), now=liars.monotonic)),
        (scheduler_client, "time", time),
        (leases, "time", time),
        (request_ahead, "time", time),
        (request_ahead, "queue", SimpleNamespace(Queue=answers, SimpleQueue=queue.SimpleQueue, Empty=queue.Empty)),
        (scheduler_client, "queue", SimpleNamespace(Queue=answers, SimpleQueue=queue.SimpleQueue, Empty=queue.Empty)),
        (scheduler_client, "Dial", lambda *_: dial),
        (exchange, "time", time),
        (cluster, "twice", liars.twice),
        (federated_store, "twice", liars.twice),
    ]
    with contextlib.ExitStack() as stack:
        for module, name, value in patched:
            stack.enter_context(mock.patch.object(module, name, value))
        try:
            yield
        finally:
            liars.close()


def _gradients(chance: random.Random) -> dict[str, Any]:
    value = chance.choice((1.0, -1.0, 1e-30))
    return {name: np.full_like(array, value) for name, array in PARAMS.items()}


def _script(kv: KV, chance: random.Random) -> None:
    """What a user's script might do."""
    kv.evaluate(lambda params, data: float(sum(array.sum() for array in params.values())), DATA)
    params = kv.init(PARAMS)
    for _ in itertools.islice(kv.batches(DATA, 4, epochs=3), 12):
        _verb(kv, params, chance)


def _verb(kv: KV, params: Mapping[str, Any], chance: random.Random) -> None:
    grads = _gradients(chance)
    verb = chance.randrange(9)
    if kv.job.federated:
        verb = min(verb, 5)
    if verb == 0:
        kv.set_lr(0.05)
    if verb == 1:
        kv.barrier()
    if verb == 2:
        kv.wait(kv.pull({name: np.empty_like(array) for name, array in PARAMS.items()}))
    if verb == 6:
        handle = kv.push(grads)
        kv.wait(kv.pull())
        kv.wait(handle)
        return
    if verb == 7:
        for name, grad in grads.items():
            kv.ready(name, grad)
    kv.step(grads, loss=1.0)
    assert params["w"].shape == PARAMS["w"].shape


def run(name: str, seed: int, count: int) -> Counter[str]:
    """Tell a worker, life after life, so many lies. AssertionError, with the latest, where it does what it must not.

    Returns how often each message was said, and by which errors lives ended.
    """
    chance = random.Random(f"{name}/{seed}")
    said: Counter[str] = Counter()
    told = 0
    while told < count:
        liars = Liars(name, chance, count - told)
        ended = live(liars)
        told += liars.said.total()
        said += Counter({f"ended by {ended or 'itself'}": 1})
        said["said"] += liars.said.total()
    return said


def live(liars: Liars) -> str:
    """Have a worker's whole life; return the name of the error by which it ended, if one did."""
    process = ProcessConfig(scheduler="ipc://nobody", connect_timeout=30.0)
    with _among(liars), np.errstate(all="ignore"):  # of weights that no server of ours would send
        try:
            made = Session(process, {})
            store = FederatedStore(made) if made.job.federated else ClusterStore(made)
            with KV(store, CPU, StepLog(None)) as kv:
                _script(kv, liars.chance)
            ended = ""
        except PSError as error:
            ended = type(error).__name__
            assert ended in ps.errors.__dict__ and 0 < len(str(error)) <= MOST_TEXT, f"{error!r} {list(liars.latest)}"
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{error!r} after {list(liars.latest)}") from error
        liars.check()
    return ended
