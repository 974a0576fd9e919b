"""SimProcess: a worker's process without time or sockets: its real exchange, over channels of the simulation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ps.errors import BadMessage
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Message
from ps.protocol.placement import Where
from ps.worker.batch import Batch
from ps.worker.conversation import Interrupted, Question
from ps.worker.exchange import Exchange
from ps.worker.landing import Landing
from ps.worker.server_channels import ServerChannels
from ps.worker.traffic import Traffic
from ps.xp import HostArray
from support.simmail import Letter
from support.simworker import Look, SimWorker

ENDLESS = 1e9
"""Seconds for which a server may be silent: who dies here is told by the scheduler, or lives."""


class SimChannel:
    """A worker's way to one server. Payloads are read on arrival: until then they must not change."""

    window: int | None = None
    incoming = None
    closed = False
    stuck = False

    def __init__(self, post: Callable[[Letter], None], shared: bool) -> None:
        """``shared``: weights are in memory that the server writes to; no payload comes with them."""
        self.pollable = self
        self.here: deque[tuple[bytes, bytes | None]] = deque()
        self._post = post
        self._shared = shared
        self._payload: bytes | None = None

    def connect_again(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        self._post(Letter(decode(header), payload))
        return True

    def receive(self) -> Iterator[bytes]:
        while self.here:
            header, self._payload = self.here.popleft()
            yield header
            assert self._payload is None, "a payload was left lying"

    def check(self, message: Message) -> None:
        if not self._shared and message.payload != (self._payload is not None):
            raise BadMessage(f"{message!r} with a wrong number of frames")

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        lo, hi = region
        if self._shared:
            self._payload = None
            return hi - lo
        payload = np.frombuffer(self.take(), np.uint8)
        if into is not None:
            np.copyto(into[lo:hi], payload)
        return payload.nbytes

    def take(self) -> Any:
        payload, self._payload = self._payload, None
        return payload

    def close(self) -> None:
        pass


class SimProcess:
    """Runs one SimWorker's life: its conversations with the servers through an Exchange, and with the scheduler."""

    def __init__(self, worker: SimWorker, post: Callable[[int, Letter], None], moved: Callable[[], None]) -> None:
        """``post`` takes the member that a letter is for; ``moved`` is called whenever the script has gone on."""
        self.worker = worker
        self.answered = 0
        self.looking = False
        """Whether the script looks at its weights."""
        self._shared = worker.part.in_place
        self._post = post
        self._moved = moved
        self._life = worker.life()
        self._batch: Batch | None = None
        self._question: tuple[int, Question] | None = None
        self._resumable = False
        self._numbers = 0
        self._members = {rank: rank + 1 for rank in range(worker.job.servers)}
        """Rank -> id of each server that this worker has heard of."""
        self.channels = {rank: self._channel(rank) for rank in self._members}
        self.exchange = Exchange(
            worker.member,
            ServerChannels([f"server {rank}" for rank in self.channels], list(self.channels.values())),
            window=worker.job.window,
            silence_limit=ENDLESS,
            check=lambda: None,
            traffic=Traffic(),
            rank=worker.rank,
            reach=self._reach,
        )
        worker.part.servers = lambda: self.exchange.servers

    def _channel(self, rank: int) -> SimChannel:
        return SimChannel(lambda letter: self._post(self._members[rank], letter), self._shared)

    def _reach(self, rank: int) -> tuple[str, SimChannel] | None:
        if rank not in self._members:
            return None
        self.channels[rank] = self._channel(rank)
        return f"server {rank}", self.channels[rank]

    def view(self, servers: dict[int, int], where: Where) -> None:
        """There is a new view: these are the servers, rank -> id."""
        self._members = dict(servers)
        self.channels = {rank: channel for rank, channel in self.channels.items() if rank in servers}
        self.exchange.follow(servers, where)
        self.exchange.send()
        if self._batch is not None and self._batch.done:
            batch = self._batch
            self._go_on(lambda: self._life.send(batch.answers))

    def move(self, server: int, member: int) -> None:
        """A server is another member by now."""
        self._members[server] = member
        self.channels[server] = self._channel(server)
        self.exchange.replace(server, f"server {server}", self.channels[server])
        self.exchange.send()

    def begin(self) -> None:
        self._go_on(lambda: next(self._life))

    def _go_on(self, move: Callable[[], Any]) -> None:
        self._batch = self._question = None
        try:
            asked = move()
        except StopIteration:
            return
        self._moved()
        self._resumable = not isinstance(asked, Look) and asked.resumable
        if isinstance(asked, Look):
            self.looking = True
        elif isinstance(asked, Question):
            self._numbers += 1
            self._question = self._numbers, asked
            self.ask_again()
        else:
            self._batch = Batch(asked.label, self._landing(refreshes=asked.refreshes))
            for call in asked.calls:
                self.exchange.submit(self._batch, call.server, call.make, call.payload, call.region)
            self.exchange.send()

    def _landing(self, *, refreshes: bool) -> Landing:
        part = self.worker.part
        into = self.worker.weights if refreshes and not self._shared else None
        follow = None if part.compression is None else self._follow
        return Landing(into, Traffic(), part.versions if refreshes else None, part.hear, follow)

    def _follow(self, payload: Any, chunk: int, version: int) -> int:
        part = self.worker.part
        assert part.compression is not None
        return part.compression.follow(payload, self.worker.weights, part.chunks[chunk], version)

    def looked(self) -> None:
        """The script goes on."""
        self.looking = False
        self._go_on(lambda: self._life.send(None))

    # What comes

    def hear(self, server: int, message: Message, payload: bytes | None) -> None:
        """Take what a server sent."""
        batch = self._batch
        before = -1 if batch is None else batch.remaining
        if server not in self.channels:  # it is gone
            return
        self.channels[server].here.append((encode(message), payload))
        self.exchange.receive(server)
        if batch is None:
            return
        assert batch.error is None, f"worker {self.worker.member}: {batch.error}"
        self.answered += before - batch.remaining
        if batch.done:
            self._go_on(lambda: self._life.send(batch.answers))

    def answer(self, message: Message) -> None:
        """Take what the scheduler said."""
        if self._question is not None and getattr(message, "request", 0) == self._question[0]:
            assert isinstance(message, self._question[1].kind), f"worker {self.worker.member}: {message!r}"
            self.answered += 1
            self._go_on(lambda: self._life.send(message))

    # What goes wrong, and what time brings

    def repeat(self, dice: Any) -> bool:
        """Ask something again that is not answered; return whether there is such."""
        flying = [request for queue in self.exchange._queues for request in queue.inflight.values()]
        if self._question is not None or not flying:
            return self.ask_again()
        request = dice.choice(flying)
        (queue,) = [queue for queue in self.exchange._queues if request in queue.inflight.values()]
        queue.channel.send(encode(request.message), request.payload, request.region)
        return True

    def ask_again(self) -> bool:
        """Ask the scheduler what it has not answered; return whether there is such."""
        if self._question is None:
            return False
        number, question = self._question
        self._post(0, Letter(question.make(number, self.worker.member)))
        return True

    def interrupt(self) -> bool:
        """Interrupt the script where it waits, and let it go on; return whether it was interrupted."""
        waits = self._question is not None or self._batch is not None
        if not waits or self._resumable or not self.worker.interruptible:
            return False
        self._go_on(lambda: self._life.throw(Interrupted()))
        return True

    def look_after(self) -> None:
        """A while has passed."""
        self.ask_again()
        self.exchange.ask_for_room()
        self.exchange.inquire()

    def waits_for(self) -> Any:
        """What to print of a process that hangs."""
        flying = [request.message for queue in self.exchange._queues for request in queue.inflight.values()]
        return flying[:3], self._question
