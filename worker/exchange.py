"""Exchange: requests to all servers at once and their answers, on the script's thread.

At most ``window`` bytes are unanswered at each server, so a slow server makes nobody's memory grow. Whoever waits
says for whom, asks the servers whether its requests are known, sends again what was lost, and gives up when a
server answers nothing at all.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from ps.errors import BadMessage, Refused, ServerLost
from ps.protocol.codec import decode, encode
from ps.protocol.membership import ERRORS
from ps.protocol.messages import Attached, Error, Inquire, Late, Message, Pushed, Squares, Waiting, Weights
from ps.protocol.transport import Socket, open_socket
from ps.worker.store import Traffic
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

SLICE = 100
"""Milliseconds of one look at the sockets; then failures are looked for."""
INQUIRE = 2.0
"""Seconds without any answer after which the servers are asked what they know."""
TELL = 10.0
"""Seconds between lines about a wait."""

Payload = Callable[[], HostArray]


@dataclass(slots=True)
class Batch:
    """Requests that are waited for together, and what their answers said. ``into`` takes the weights."""

    into: HostArray | None = None
    remaining: int = 0
    staleness: int = 0
    late: bool = False
    squares: dict[int, float] = field(default_factory=dict)
    clock: int = 0
    """The highest clock an Attached named."""

    @property
    def done(self) -> bool:
        """Whether everything was answered."""
        return self.remaining == 0


@dataclass(slots=True)
class Request:
    """One message to one server; ``cost`` is what it takes from the window: the larger of both directions."""

    server: int
    message: Any
    payload: Payload | None
    cost: int
    region: tuple[int, int]
    """First byte and byte behind the last of the chunk in the flat buffer."""
    batch: Batch


class Link:
    """One server as the worker sees it."""

    __slots__ = ("flying", "heard", "inflight", "name", "queue", "socket")

    def __init__(self, name: str, socket: Socket, now: float) -> None:
        self.name = name
        self.socket = socket
        self.queue: deque[Request] = deque()
        self.inflight: dict[int, Request] = {}
        self.flying = 0
        self.heard = now


class Exchange:
    """The traffic of one worker with all servers. Not to be used from two threads."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        member: int,
        servers: list[tuple[str, str]],
        *,
        window: int,
        silence_limit: float,
        check: Callable[[], None],
        traffic: Traffic,
    ) -> None:
        """``servers`` are (name, address) by rank; ``check`` raises when this worker's job is over."""
        self._member = member
        self._window = window
        self._silence_limit = silence_limit
        self._check = check
        self._numbers = itertools.count(1)
        self._poller = zmq.Poller()
        self.versions: dict[int, int] = {}
        self.traffic = traffic
        self.waiting: tuple[tuple[int, ...], float] | None = None
        """The ranks that are waited for, and since when (monotonic); for the status."""
        self._links: list[Link] = []
        for name, address in servers:
            sock = open_socket(context, zmq.DEALER)
            sock.connect(address)
            self._poller.register(sock, zmq.POLLIN)
            self._links.append(Link(f"{name} at {address}", sock, time.monotonic()))
        self._by_socket = {link.socket: link for link in self._links}

    @property
    def servers(self) -> range:
        """The servers' ranks."""
        return range(len(self._links))

    def submit(
        self,
        batch: Batch,
        server: int,
        make: Callable[[int], Message],
        payload: Payload | None = None,
        region: tuple[int, int] = (0, 0),
    ) -> None:
        """Queue a request; ``make`` takes its number. It is sent by ``flush``, ``wait`` or another's wait."""
        request = Request(server, make(next(self._numbers)), payload, region[1] - region[0], region, batch)
        batch.remaining += 1
        self._links[server].queue.append(request)

    def ask_all(self, make: Callable[[int], Message]) -> Batch:
        """Send every server a request without payload and wait for the answers."""
        batch = Batch()
        for server in self.servers:
            self.submit(batch, server, make)
        self.wait(batch)
        return batch

    def flush(self) -> None:
        """Return when everything queued is on its way; waits where the window is full."""
        self._until(lambda: not any(link.queue for link in self._links))

    def wait(self, batch: Batch) -> None:
        """Return when the batch is done. Raises what went wrong."""
        self._until(lambda: batch.remaining == 0)

    def wait_at_most(self, batch: Batch, seconds: float) -> None:
        """Like ``wait``, but give up silently after some seconds."""
        deadline = time.monotonic() + seconds
        self._until(lambda: batch.remaining == 0 or time.monotonic() > deadline)

    def _until(self, done: Callable[[], bool]) -> None:
        self._send_queued()
        if done():
            return
        began = asked = told = progress = time.monotonic()
        try:
            while not done():
                events = self._poller.poll(SLICE)
                if events:
                    for sock, _ in events:
                        self._receive(self._by_socket[sock])
                    self._send_queued()
                    if done():
                        break
                now = time.monotonic()
                if events:
                    progress = now
                if now - progress < SLICE / 1000 and now - asked < INQUIRE:
                    continue
                self._check()
                if now - asked >= INQUIRE:
                    asked = now
                    self._inquire(now)
                if now - told >= TELL:
                    told = now
                    self._tell(now - began)
        finally:
            self.waiting = None
            self.traffic.wait_s += time.monotonic() - began

    # Sending

    def _send_queued(self) -> None:
        for link in self._links:
            while link.queue and (not link.inflight or link.flying + link.queue[0].cost <= self._window):
                request = link.queue.popleft()
                if not link.inflight:
                    link.heard = time.monotonic()
                link.inflight[request.message.request] = request
                link.flying += request.cost
                self._send(link, request)

    def _send(self, link: Link, request: Request) -> None:
        header = encode(request.message)
        if request.payload is None:
            link.socket.send(header)
            return
        data = request.payload()
        link.socket.send(header, zmq.SNDMORE)
        link.socket.send(data.data, copy=False)
        self.traffic.bytes_up += data.nbytes

    # Receiving

    def _receive(self, link: Link) -> None:
        """Take everything that is here from one server."""
        while True:
            try:
                header = link.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            link.heard = time.monotonic()
            message = decode(header)
            more = link.socket.getsockopt(zmq.RCVMORE)
            if message.payload != bool(more):
                raise BadMessage(f"{link.name} sent {message!r} with a wrong number of frames")
            if isinstance(message, Waiting):
                self._known(link, message)
                continue
            request = link.inflight.pop(message.request, None)
            if request is None:  # the answer to a request that was sent twice
                if more:
                    link.socket.recv(copy=False)
                continue
            link.flying -= request.cost
            self._answer(link, request, message)
            request.batch.remaining -= 1

    def _answer(self, link: Link, request: Request, message: Message) -> None:
        batch = request.batch
        match message:
            case Weights():
                self._land(link, request, message)
                self.versions[message.chunk] = message.version
                batch.staleness = max(batch.staleness, message.staleness)
            case Pushed():
                batch.staleness = max(batch.staleness, message.staleness)
            case Squares():
                batch.squares[message.chunk] = message.value
            case Late():
                batch.late = True
            case Attached():
                batch.clock = max(batch.clock, message.clock)
            case Error():
                raise ERRORS.get(message.code, Refused)(f"{link.name}: {message.text}")
            case _:
                pass

    def _land(self, link: Link, request: Request, message: Weights) -> None:
        lo, hi = request.region
        if request.batch.into is None:
            raise BadMessage(f"{link.name} sent {message!r}, which nobody asked for")
        size = link.socket.recv_into(request.batch.into[lo:hi].data)
        if size != hi - lo:
            raise BadMessage(f"{link.name} sent {size} bytes for chunk {message.chunk}, which has {hi - lo}")
        self.traffic.bytes_down += size

    # Waiting

    def _inquire(self, now: float) -> None:
        """Ask the servers that owe answers what they know; give up on one that says nothing at all."""
        for link in self._links:
            if not link.inflight:
                continue
            if now - link.heard > self._silence_limit:
                raise ServerLost(
                    f"{link.name} has answered nothing for {now - link.heard:.0f} s. Is its host up and reachable?"
                )
            oldest = tuple(itertools.islice(link.inflight, 1000))
            link.socket.send(encode(Inquire(0, self._member, oldest)))

    def _known(self, link: Link, message: Waiting) -> None:
        for number in message.unknown:
            if (request := link.inflight.get(number)) is not None:
                self._send(link, request)
        if message.ranks:
            since = self.waiting[1] if self.waiting else time.monotonic() - INQUIRE
            self.waiting = (message.ranks, since)

    def _tell(self, seconds: float) -> None:
        clocks = {
            r.message.clock for link in self._links for r in link.inflight.values() if hasattr(r.message, "clock")
        }
        clock = f", clock {max(clocks)}" if clocks else ""
        names = [link.name for link in self._links if link.inflight]
        if self.waiting:
            names = [f"worker {rank}" for rank in self.waiting[0]]
        log.warning("waiting %.0f s for %s%s", seconds, ", ".join(names), clock)

    def close(self) -> None:
        """Close the sockets; what was not sent is dropped."""
        for link in self._links:
            link.socket.close()
