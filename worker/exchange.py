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
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import zmq

from ps import sigterm
from ps.errors import BadMessage, PSError, Refused
from ps.protocol.codec import decode
from ps.protocol.membership import ERRORS
from ps.protocol.messages import (
    Attach,
    Attached,
    Delta,
    Error,
    Held,
    Init,
    InitChunk,
    Late,
    Later,
    Message,
    Ok,
    Pull,
    Push,
    Pushed,
    Resume,
    Retire,
    Scale,
    Skip,
    Squares,
    Start,
    Stored,
    Upload,
    Waiting,
    Weights,
)
from ps.trace import END, OFF, Trace
from ps.worker.batch import Batch, Request
from ps.worker.interrupt import HOLD
from ps.worker.server_link import INQUIRE, ServerLink
from ps.worker.store import Traffic
from ps.worker.wire import Wire
from ps.worker.wires import Wires
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

SLICE = 100
"""Milliseconds of one look at the sockets; then failures are looked for."""
TELL = 10.0
"""Seconds between lines about a wait."""

ANSWERS: dict[type[Message], tuple[type[Message], ...]] = {
    Attach: (Attached,),
    Init: (Ok,),
    InitChunk: (Ok,),
    Pull: (Weights,),
    Push: (Weights, Delta, Pushed, Squares, Late),
    Resume: (Held,),
    Retire: (Ok,),
    Scale: (Weights, Delta, Pushed),
    Skip: (Weights, Delta, Pushed, Squares, Late),
    Start: (Ok,),
    Upload: (Stored, Later, Late),
}
"""What a server may answer, besides Error."""


class Exchange:
    """The traffic of one worker with all servers. Not to be used from two threads."""

    def __init__(
        self,
        member: int,
        wires: Wires,
        *,
        window: int,
        silence_limit: float,
        check: Callable[[], None],
        traffic: Traffic,
        rank: int = 0,
        trace: Trace = OFF,
        alive: Callable[[], bool] = lambda: False,
        poller: zmq.Poller | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wires`` are those to the servers, by rank; ``check`` raises when this worker's job is over, ``alive`` says
        whether the scheduler is heard and hears the servers. All waiting is done in ``poller``; ``now`` is in seconds.
        """
        self._member = member
        self._rank = rank
        self._trace = trace
        self._silence_limit = silence_limit
        self._check = check
        self._alive = alive
        self._numbers = itertools.count(1)
        self._poller = zmq.Poller() if poller is None else poller
        self._now = now
        self._broken: PSError | None = None
        self._moved = False
        self.traffic = traffic
        self.since: float | None = None
        """Since when nothing has come for which this worker waits (monotonic); None while it does not wait."""
        self._links: list[ServerLink] = []
        for server, (name, wire) in enumerate(zip(wires.names, wires.wires, strict=True)):
            self._poller.register(wire.pollable, zmq.POLLIN)
            self._links.append(ServerLink(name, wire, window, traffic, server, rank, trace))
        self._stuck: set[ServerLink] = set()
        self._by_pollable = {link.wire.pollable: link for link in self._links}

    @property
    def servers(self) -> range:
        """The servers' ranks."""
        return range(len(self._links))

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The ranks of the workers that the servers say they wait for; may be asked from any thread."""
        return tuple(sorted({rank for link in self._links for rank in link.waits_for}))

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
        self._links[server].add(request)

    def ask_all(self, make: Callable[[int], Message], label: str) -> Batch:
        """Send every server a request without payload and wait for the answers."""
        batch = Batch(label)
        for server in self.servers:
            self.submit(batch, server, make)
        self.wait(batch)
        return batch

    def flush(self, batch: Batch | None = None) -> None:
        """Return when everything queued is on its way; waits where the window is full. Raises the batch's error."""
        self._until(lambda: not any(link.queue for link in self._links), batch or Batch("what was asked"))

    def rehome(self, batch: Batch, place: Callable[[int], HostArray]) -> None:
        """Send what is not answered yet of a batch's chunks from another place, where the same lies."""
        for link in self._links:
            for request in (*link.inflight.values(), *(request for _, _, request in link.queue)):
                if request.batch is batch and request.payload is not None and request.chunk is not None:
                    request.payload = place(request.chunk)

    def wait(self, batch: Batch) -> None:
        """Return when the batch is done. Raises what went wrong with it, and again when waited for again."""
        self._until(lambda: batch.remaining == 0, batch)

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
            self._turn(self._links)
            for link in self._links:
                if link.patience < math.inf:
                    link.ask_for_room(self._member)

    def _until(self, done: Callable[[], bool], batch: Batch) -> None:
        with HOLD, self._breaking():
            for link in self._links:
                link.send_queued()
            if batch.error is None and not done():
                self._wait(done, batch)
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
        self._moved = False
        try:
            while True:
                self._watch_for_room()
                slept = self._trace.now()
                patience = min([link.patience for link in self._links])
                events = self._look(min(SLICE, 1000 * patience))
                self._trace.add("wait", slept)
                if events:
                    self._turn([self._by_pollable[pollable] for pollable, _ in events])
                    if batch.error is not None or done():
                        return
                elif patience < math.inf:
                    for link in self._links:
                        if link.patience <= patience:
                            link.ask_for_room(self._member)
                now = self._now()
                if self._moved:
                    self.since, self._moved = now, False
                if events and now - asked < INQUIRE:
                    continue
                if done():
                    return
                for link in self._links:  # there may have been no room before
                    link.send_queued()
                self._trace.tick()
                sigterm.check()
                HOLD.check()
                self._check()
                if now - asked >= INQUIRE:
                    asked = now
                    for link in self._links:
                        link.inquire(self._member, self._silence_limit, alive=self._alive())
                if now - told >= TELL:
                    told = now
                    log.warning("waiting %.0f s for %s, %s", now - began, self._names(), batch.label)
        finally:
            self.since = None
            self.traffic.wait_s += self._now() - began

    def _look(self, milliseconds: float) -> list[tuple[Any, int]]:
        """Return what has something to read or room to send, once anything has, or after so long."""
        if self._poller.sockets:
            return self._poller.poll(int(milliseconds))
        time.sleep(milliseconds / 1000)  # all servers are gone, and ZeroMQ does not wait for nothing
        return []

    def _watch_for_room(self) -> None:
        """Be woken when there is room again for what could not be sent, and not by lines that are closed."""
        for link in self._links:
            wire, stuck = link.wire, link.wire.stuck
            self._leave_closed(wire)
            if stuck != (link in self._stuck) and wire.pollable in self._poller:
                self._poller.register(wire.pollable, zmq.POLLIN | (zmq.POLLOUT if stuck else 0))
                self._stuck ^= {link}

    def _names(self) -> str:
        ranks = self.waiting_for
        names = [f"worker {rank}" for rank in ranks] or [link.about for link in self._links if link.busy]
        return ", ".join(names)

    # Receiving

    def _turn(self, links: list[ServerLink]) -> None:
        for link in links:
            try:
                self._receive(link)
            except PSError as error:
                raise type(error)(f"{link.name}: {error}") from None
        for link in self._links:
            link.send_queued()

    def _receive(self, link: ServerLink) -> None:
        """Take everything that is here from one server."""
        wire = link.wire
        for header in wire.receive():
            link.heard()
            message = decode(header)
            wire.check(message)
            if isinstance(message, Waiting):
                link.explained(message)
                continue
            request = link.answered(getattr(message, "request", 0))
            if request is not None:
                self._answer(link, request, message)
                request.batch.remaining -= 1
                request.batch.missing.discard(request.chunk)
                self._moved = True
            elif isinstance(message, Error) and not message.request:  # it could not read what we sent
                raise ERRORS.get(message.code, Refused)(message.text)
            elif message.payload:  # the answer to a request that was sent twice
                wire.land(None)
        self._leave_closed(wire)

    def _leave_closed(self, wire: Wire) -> None:
        """Look no more at a wire whose server has gone; whoever watches the members will say what that means."""
        if wire.closed and wire.pollable in self._poller:
            self._poller.unregister(wire.pollable)

    def _answer(self, link: ServerLink, request: Request, message: Message) -> None:
        batch, asked, since = request.batch, request.message, self._trace.now()
        if isinstance(message, Error):
            batch.error = batch.error or ERRORS.get(message.code, Refused)(f"{link.name}: {message.text}")
            return
        if type(message) not in ANSWERS[type(asked)] or getattr(message, "chunk", None) not in (None, request.chunk):
            raise BadMessage(f"{message!r} is no answer to {asked!r}")
        match message:
            case Weights():
                self._land(link, request, message)
                batch.staleness = max(batch.staleness, message.staleness)
            case Pushed():
                self._note(request, message, request.region[1] - request.region[0])
                batch.staleness = max(batch.staleness, message.staleness)
            case Squares():
                batch.squares[message.chunk] = message.value
            case Delta():
                self._follow(link, request, message)
                batch.staleness = max(batch.staleness, message.staleness)
            case Late():
                batch.late.add(message.chunk)
                batch.collected = max(batch.collected, message.version)
            case Later():
                batch.later[message.chunk] = message.seconds
            case Held():
                batch.held.update(message.chunks)
            case Attached():
                batch.entry = max(batch.entry, message.clock)
            case _:
                pass
        if self._trace.on and request.chunk is not None:
            lo, hi = request.region
            clock = getattr(asked, "clock", -1)
            self._trace.add("land", since, clock=clock, chunk=request.chunk, peer=link.server, size=hi - lo)
            if isinstance(asked, Push):
                self._trace.link(END, "land", since, self._rank, clock, request.chunk)

    def _land(self, link: ServerLink, request: Request, message: Weights) -> None:
        lo, hi = request.region
        size = link.wire.land(request)
        if size != hi - lo:
            raise BadMessage(f"{size} bytes for chunk {message.chunk}, which has {hi - lo}")
        self._note(request, message, size)

    def _follow(self, link: ServerLink, request: Request, message: Delta) -> None:
        if request.batch.follow is None:
            raise BadMessage(f"{message!r}, though nothing in this job is compressed")
        self._note(request, message, request.batch.follow(link.wire.take(), message.chunk, message.version))

    def _note(self, request: Request, message: Weights | Delta | Pushed, size: int) -> None:
        """Note which version of a chunk this worker has now, if its own copy is what the batch brings up to date."""
        if message.rates and request.batch.hear is not None:
            request.batch.hear(message.rates)
        versions = request.batch.versions
        if versions is not None:
            versions[message.chunk] = message.version
        if versions is not None or isinstance(message, Weights):
            self.traffic.bytes_down += size

    def close(self) -> None:
        """Close the wires; what was not sent is dropped."""
        for link in self._links:
            link.wire.close()
