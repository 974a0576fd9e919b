"""SimSession and SimChannel: a worker's place in a simulated job, and its way to one server, without sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from ps.errors import BadMessage
from ps.protocol.codec import encode
from ps.protocol.messages import BarrierEnter, BarrierLeave, InitDone, InitGrant, InitRequest, Message, Ok
from ps.server.loan import SENT
from ps.server.send import Send
from ps.trace import OFF
from ps.worker.cut_plan import CutPlan
from ps.worker.exchange import Exchange
from ps.worker.server_channels import ServerChannels, ToShare
from ps.worker.session import Session
from ps.worker.stop_point import StopPoint
from ps.worker.traffic import Traffic
from ps.xp import HostArray

if TYPE_CHECKING:
    from support.simjob import SimWorker

IN, OUT = int(zmq.POLLIN), int(zmq.POLLOUT)
SILENCE_LIMIT = 1000.0
"""Virtual seconds for which a server may be silent. Those who are slow here are not dead, however long it takes."""


class SimChannel:
    """A channel that keeps its order; ``room`` messages may be unsent. Lost messages leave no trace."""

    window: int | None = None
    incoming = None
    closed = False

    def __init__(self, room: int) -> None:
        self.pollable = self
        self.up: deque[tuple[bytes, HostArray | None]] = deque()
        """What is on its way to the server. Payloads are read on arrival: until then they must not change."""
        self.down: deque[tuple[bytes, Send]] = deque()
        """What is on its way to the worker. Weights are read on arrival: until then the server must not change them."""
        self.here: deque[tuple[bytes, bytes | None]] = deque()
        """What has arrived at the worker."""
        self._room = room
        self._payload: bytes | None = None

    # The server's side

    def say(self, reply: Send) -> None:
        self.down.append((encode(reply.message), reply))

    def bring(self) -> tuple[bytes, bytes | None]:
        """Return the next message as it arrives."""
        header, reply = self.down.popleft()
        if reply.loan is None:
            return header, None
        assert not reply.loan.stay
        payload = reply.loan.weights.tobytes()
        reply.loan.tracker = SENT
        return header, payload

    # The worker's side

    @property
    def stuck(self) -> bool:
        return len(self.up) > self._room

    def connect_again(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        if self.stuck:
            return False
        self.up.append((header, payload))
        return True

    def receive(self) -> Iterator[bytes]:
        while self.here:
            header, self._payload = self.here.popleft()
            yield header
            assert self._payload is None, "a payload was left lying"

    def check(self, message: Message) -> None:
        if message.payload != (self._payload is not None):
            raise BadMessage(f"{message!r} with a wrong number of frames")

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        payload = np.frombuffer(self.take(), np.uint8)
        if into is not None:
            lo, hi = region
            np.copyto(into[lo:hi], payload)
        return payload.nbytes

    def take(self) -> Any:
        payload, self._payload = self._payload, None
        return payload

    def close(self) -> None:
        pass


class SimPoller(zmq.Poller):
    """Hands the baton on until a channel has something, or for as long as it is told to."""

    def __init__(self, worker: SimWorker) -> None:
        super().__init__()
        self._worker = worker

    def poll(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        assert timeout is not None
        session = self._worker
        session.wait("answers", self._events, session.job.now + timeout / 1000)
        return self._events()

    def _events(self) -> list[tuple[Any, int]]:
        found = []
        for channel, flags in self.sockets:
            events = int(flags) & ((IN if channel.here else 0) | (0 if channel.stuck else OUT))
            if events:
                found.append((channel, events))
        return found


class SimScheduler:
    """The scheduler's part: who seeds, and the barrier."""

    silence = 0.0
    missing = 0
    seat = None

    def __init__(self, worker: SimWorker) -> None:
        self.stop_point = StopPoint()
        self.cut_plan = CutPlan()
        self._worker = worker
        self.member = worker.member
        self.rank = worker.rank

    @property
    def view(self) -> Any:
        return self._worker.job.view()

    def check(self) -> None:
        pass

    def number(self) -> int:
        return 1

    def request(
        self, make: Callable[[int, int], Message], kind: type[Any], waiting: str, limit: float, *, number: int | None
    ) -> Any:
        message, job = make(1, self.member), self._worker.job
        match message:
            case InitRequest():
                if job.seed is None:
                    job.seed = False
                    return InitGrant(1, True)
                self._worker.wait(waiting, lambda: job.seed)
                return InitGrant(1, False)
            case InitDone():
                job.seed = True
                return Ok(1)
            case BarrierEnter():
                return BarrierLeave(1, self._meet(waiting, message.clock))
        raise AssertionError(f"{message!r} in a simulated job")

    def _meet(self, waiting: str, clock: int) -> int:
        """Return the highest clock of all workers once all are here; the last one lets them go."""
        worker = self._worker
        worker.meets = clock
        others = [other for other in worker.job.workers if not other.over]
        if any(other.meets is None for other in others):
            worker.wait(waiting, lambda: worker.meets is None)
            return worker.met
        worker.met = max(other.meets for other in others if other.meets is not None)
        for other in others:
            other.met, other.meets = worker.met, None
        return worker.met

    def leave(self, report: dict[str, Any]) -> None:
        pass


class SimSession(Session):
    """A session in a simulated job, where a scheduler is never silent."""

    def __init__(self, worker: SimWorker) -> None:
        self.report = dict
        self.job, self.rank = worker.job.job, worker.rank
        self.cut_plan = CutPlan()
        self._worker = worker
        self._scheduler: Any = SimScheduler(worker)
        self._exchange = None
        self._servers = []
        self.trace = OFF
        self.tend = lambda: None
        self.peer_wait = lambda: None
        self.farewell = lambda failure: None
        self._closed = False

    def connect(self, traffic: Traffic, shared: ToShare) -> ServerChannels:
        names = [f"server {rank}" for rank in range(self.job.servers)]
        channels = ServerChannels(names, list(self._worker.channels))
        self._exchange = self._worker.exchange = Exchange(
            self.member,
            channels,
            window=self.job.window,
            silence_limit=SILENCE_LIMIT,
            check=lambda: None,
            traffic=traffic,
            rank=self.rank,
            poller=SimPoller(self._worker),
            now=lambda: self._worker.job.now,
        )
        return channels

    def leave(self, failure: str = "") -> None:
        if not self._closed:
            self._closed = True
            assert not failure or self._worker.job.stopped, failure
