"""Exchange: requests to all servers at once and their answers, on the script's thread.

At most ``window`` bytes are unanswered at each server, so a slow server makes nobody's memory grow. Whoever waits
says for whom, asks the servers whether its requests are known, sends again what was lost, and gives up when a
server answers nothing at all.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any

import zmq

from ps import sigterm
from ps.errors import BadMessage, PSError, ServerLost
from ps.protocol.codec import decode
from ps.protocol.error_codes import refusal
from ps.protocol.messages import (
    Error,
    Message,
    Moved,
    Waiting,
)
from ps.protocol.placement import Where
from ps.protocol.spin import Spin
from ps.protocol.transports.channel import ServerChannel
from ps.trace import OFF, Trace
from ps.worker.batch import Batch, Request
from ps.worker.channel_poller import ChannelPoller
from ps.worker.conversation import Call
from ps.worker.interrupt import HOLD
from ps.worker.request_queue import INQUIRE, RequestQueue, awaited, waited_for
from ps.worker.routes import Routes
from ps.worker.server_channels import ServerChannels
from ps.worker.traffic import Traffic
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

SLICE = 100
"""Milliseconds of one look at the sockets; then failures are looked for."""
TELL = 5.0
"""Seconds between lines about a wait."""


class Exchange:
    """The traffic of one worker with all servers. Not to be used from two threads."""

    def __init__(
        self,
        member: int,
        channels: ServerChannels,
        *,
        window: int,
        silence_limit: float,
        check: Callable[[], None],
        traffic: Traffic,
        rank: int = 0,
        trace: Trace = OFF,
        alive: Callable[[], bool] = lambda: False,
        poller: zmq.Poller | None = None,
        reach: Callable[[int], tuple[str, ServerChannel] | None] = lambda rank: None,
        renew: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        crowd: Callable[[], int] = lambda: 0,
    ) -> None:
        """``channels`` go to the servers, by rank; ``check`` raises when this worker's job is over, ``alive`` says
        whether the scheduler is heard and hears the servers. All waiting is done in ``poller``; ``now`` is in seconds.
        ``reach`` connects to the server of a rank that has come since, ``renew`` calls ``follow``; ``crowd``: see Spin.
        """
        self._member = member
        self._trace = trace
        self._silence_limit = silence_limit
        self._check = check
        self._alive = alive
        self._numbers, self._poller = itertools.count(1), ChannelPoller(poller or zmq.Poller(), Spin(crowd))
        self._now = now
        self._broken: PSError | None = None
        self._moved = False
        self.traffic = traffic
        self.since: float | None = None
        """Since when nothing has come for which this worker waits (monotonic); None while it does not wait."""
        self.batch: Batch | None = None  # while it waits
        self.changed = False
        """Whether there is a view that was not gone by: another thread sets it, and ``renew`` takes it back."""
        self._reach, self._renew, identity = reach, renew, channels.identity
        self._make = partial(RequestQueue, window=window, traffic=traffic, rank=rank, trace=trace, identity=identity)
        self._queues: list[RequestQueue] = []
        """In the order in which their servers came: those of the beginning by rank."""
        opened = zip(channels.ranks, channels.names, channels.channels, strict=True)
        self._routes = Routes({rank: self._queue(rank, name, way) for rank, name, way in opened}, self._reached)
        self._looked = 0.0  # when the servers were last asked what they know by ``look``

    @property
    def servers(self) -> list[int]:
        """The servers' ranks."""
        if self.changed:
            self._renew()
        return self._routes.ranks

    def _queue(self, server: int, name: str, channel: ServerChannel) -> RequestQueue:
        queue = self._make(name, channel, server=server)
        self._queues.append(queue)
        self._poller.add(queue)
        return queue

    def _drop(self, queue: RequestQueue) -> None:
        self._poller.remove(queue)
        queue.channel.close()

    def _reached(self, rank: int) -> RequestQueue | None:
        return None if (found := self._reach(rank)) is None else self._queue(rank, *found)

    def follow(self, servers: Collection[int], where: Where) -> None:
        """Go by another view: the ranks of all servers, and which chunks are not where the layout has them."""
        for queue in self._routes.follow(servers, where):
            self._queues.remove(queue)
            self._drop(queue)

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The ranks of the workers that the servers say they wait for; may be asked from any thread."""
        return waited_for(self._queues)

    def submit(
        self,
        batch: Batch,
        server: int,
        make: Callable[[int], Message],
        payload: HostArray | None = None,
        region: tuple[int, int] = (0, 0),
    ) -> None:
        """Queue a request; ``make`` takes its number. It is sent by ``flush``, ``wait`` or another's wait.

        The payload must not change before the batch is done.
        """
        batch.remaining += 1
        request = Request(make(next(self._numbers)), payload, region, batch)
        if request.chunk is not None:
            batch.missing.add(request.chunk)
        self._routes.add(server, request)

    def submit_all(self, batch: Batch, calls: Iterable[Call]) -> None:
        """Queue what a conversation asks."""
        for call in calls:
            self.submit(batch, call.server, call.make, call.payload, call.region)

    def flush(self, batch: Batch | None = None) -> None:
        """Return when everything queued is on its way; waits where the window is full. Raises the batch's error."""
        self._until(
            lambda: not (any(queue.unsent or queue.channel.stuck for queue in self._queues) or self._routes.stranded),
            batch or Batch("what was asked"),
        )

    def send_from(self, batch: Batch, place: Callable[[int], HostArray]) -> None:
        """Send what is not answered yet of a batch's chunks from another place, where the same lies."""
        asked = [r for queue in self._queues for r in (*queue.inflight.values(), *(r for _, _, r in queue.unsent))]
        for request in (*asked, *self._routes.stranded):
            if request.batch is batch and request.payload is not None and request.chunk is not None:
                request.payload = place(request.chunk)

    def wait(self, batch: Batch) -> None:
        """Return when the batch is done. Raises what went wrong with it, and again when waited for again."""
        self._until(lambda: batch.remaining == 0, batch)

    def wait_or(self, batch: Batch, also: Callable[[], bool]) -> None:
        """Return when the batch is done, or ``also`` says so. Raises what went wrong with it."""
        self._until(lambda: batch.remaining == 0 or also(), batch)

    def wait_for(self, batch: Batch, chunks: Iterable[int]) -> None:
        """Return when these chunks of the batch are answered. Raises what went wrong with it."""
        wanted = batch.missing.intersection(chunks)
        self._until(lambda: not wanted & batch.missing, batch)

    def wait_at_most(self, batch: Batch, seconds: float) -> None:
        """Like ``wait``, but give up silently after some seconds."""
        deadline = self._now() + seconds
        self._until(lambda: batch.remaining == 0 or self._now() > deadline, batch)

    def poll(self) -> None:
        """Take what is here and send what may be sent, without waiting."""
        with HOLD, self._breaking():
            self._turn(self._queues)
            self.ask_for_room()

    def look(self) -> None:
        """Like ``poll``, and ask now and then what the servers know of what is not answered: for those who wait for
        other things beside. Raises ServerLost for one that never says."""
        self.poll()
        if not any(queue.busy for queue in self._queues):
            self._looked = 0.0
        elif not self._looked:
            self._looked = self._now()
        elif self._now() - self._looked >= INQUIRE:
            self._looked = self._now()
            with self._breaking():
                self.inquire()

    @property
    def pollables(self) -> list[Any]:
        """What is ready to be read when a server has answered."""
        return [queue.channel.pollable for queue in self._queues if not queue.channel.closed]

    def wake(self, pollables: Iterable[Any]) -> None:
        """Look at once, while waiting for servers, when one of these is ready to be read, and at no others any more.

        What is called meanwhile reads them, and may find that the waiting has ended.
        """
        self._poller.wake(pollables)

    def send(self) -> None:
        """Send what the windows allow, without waiting."""
        for queue in self._queues:
            queue.send_queued()

    def receive(self, server: int) -> None:
        """Take what is here from the server of a rank, and send what there is room for then."""
        with self._breaking():
            self._turn([queue for queue in self._queues if queue.server == server])

    def ask_for_room(self, patience: float = math.inf) -> None:
        """Ask the servers whose windows have been full for so long whether others wait for what they hold back."""
        for queue in self._queues:
            if queue.patience < math.inf and queue.patience <= patience:
                queue.ask_for_room(self._member)

    def inquire(self) -> None:
        """Ask the servers what they know of what is not answered. Raises ServerLost for one that never says."""
        if self._routes.stranded:
            self._routes.retry()
            self.send()
        for queue in self._queues:
            queue.inquire(self._member, self._silence_limit, alive=self._alive())

    def _until(self, done: Callable[[], bool], batch: Batch) -> None:
        if self._broken is not None:  # what _breaking does, without the cost of a generator in each step
            raise self._broken
        with HOLD:
            try:
                if self.changed:
                    self._renew()
                self.send()
                if batch.error is None and not done():
                    self._wait(done, batch)
            except PSError as error:
                self._broken = error
                raise
        if batch.error is not None:
            raise batch.error

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        """Raise the same error for ever after the first: frames may be half read, a server is gone."""
        if self._broken is not None:
            raise self._broken
        try:
            yield
        except PSError as error:
            self._broken = error
            raise

    def _wait(self, done: Callable[[], bool], batch: Batch) -> None:
        began = asked = told = self.since = self._now()
        self._moved, self.batch = False, batch
        try:
            while True:
                self._poller.watch_for_room(self._queues)
                slept = self._trace.now()
                patience = min([queue.patience for queue in self._queues])
                heard, woken = self._poller.poll(min(SLICE, 1000 * patience))
                self._trace.add("wait", slept)
                if heard:
                    self._turn(heard)
                    if batch.error is not None or done():
                        return
                elif not woken and patience < math.inf:
                    self.ask_for_room(patience)
                now = self._now()
                if self._moved:
                    self.since, self._moved = now, False
                if heard and now - asked < INQUIRE:
                    continue
                if done():
                    return
                if self.changed:
                    self._renew()
                self.send()  # there may have been no room before
                self._trace.tick()
                sigterm.check()
                HOLD.check()
                self._check()
                if woken and not heard and done():  # what is not from servers is read by what it calls
                    return
                if now - asked >= INQUIRE:
                    asked = now
                    self.inquire()
                if now - told >= TELL:
                    told = now
                    log.warning("waiting %.0f s for %s, %s", now - began, self.awaited, batch.label)
        finally:
            self.since = self.batch = None
            self.traffic.wait_s += self._now() - began

    @property
    def awaited(self) -> str:
        """Whom this worker waits for, for people."""
        return awaited(self._queues) or "a server that has come, and that the scheduler has not told of yet"

    # Receiving

    def _turn(self, queues: list[RequestQueue]) -> None:
        for queue in queues:
            try:
                self._receive(queue)
            except PSError as error:
                raise type(error)(f"{queue.name}: {error}") from None
        self.send()

    def _receive(self, queue: RequestQueue) -> None:
        """Take what is here from one server."""
        channel = queue.channel
        for header in channel.receive():
            queue.heard()
            message = decode(header)
            channel.check(message)
            if isinstance(message, Waiting):
                queue.explained(message)
                continue
            if isinstance(message, Error) and message.code == "stranger":
                queue.unknown(message.request)
                continue
            if isinstance(message, Error) and message.code == "another-job":
                raise ServerLost(message.text)
            request = queue.answered(getattr(message, "request", 0))
            if request is not None:
                self._moved = True
                if isinstance(message, Moved):
                    self._routes.moved(request, message.rank)
                    continue
                self._answer(queue, request, message)
                request.batch.remaining -= 1
                request.batch.missing.discard(request.chunk)
            elif isinstance(message, Error) and not message.request:  # it could not read what we sent
                raise refusal(message)
            elif message.payload:  # the answer to a request that was sent twice
                channel.land(None, (0, 0), False)
        self._poller.leave_closed(channel)

    def _answer(self, queue: RequestQueue, request: Request, message: Message) -> None:
        batch, asked, since = request.batch, request.message, self._trace.now()
        if isinstance(message, Error):
            batch.error = batch.error or refusal(message, queue.name)
            return
        if type(message).__name__ not in asked.answers or getattr(message, "chunk", None) not in (None, request.chunk):
            raise BadMessage(f"{message!r} is no answer to {asked!r}")
        batch.answered(message)
        if batch.landing is not None:
            batch.landing.take(queue.channel, message, request.region, request.aside)
        elif message.payload:
            queue.channel.land(None, request.region, request.aside)
        if self._trace.on:
            queue.show_landing(request, since)

    def replace(self, server: int, name: str, channel: ServerChannel) -> None:
        """Send what a server has not answered again on another channel: it is another process by now."""
        queue = next(queue for queue in self._queues if queue.server == server)
        self._drop(queue)
        queue.move(name, channel)
        self._poller.add(queue)
        self._moved = True

    def close(self) -> None:
        """Close the channels; what was not sent is dropped."""
        for queue in self._queues:
            queue.channel.close()
