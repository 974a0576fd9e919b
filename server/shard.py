"""Shard: one server's part of the model as a state machine. Messages in, replies out; no sockets, no clock.

The caller says what time it is and performs the replies; when it sends weights without copying them it lends
them out (``Reply.chunk.leases``), and the shard does not touch them before they are back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.protocol.layout import Layout
from ps.protocol.membership import peers
from ps.protocol.messages import (
    Attach,
    Attached,
    Error,
    Init,
    InitChunk,
    Inquire,
    Late,
    Message,
    Ok,
    Pull,
    Push,
    Pushed,
    Retire,
    Scale,
    SetLr,
    Skip,
    Squares,
    Start,
    View,
    Waiting,
    Weights,
)
from ps.server.chunk import ChunkState, Contribution, Seat, Waiter
from ps.server.modes import Mode, build
from ps.server.update import Updater
from ps.xp import HostArray

MAX_EARLY = 256
"""Attach requests kept for a view that has not arrived yet."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message for whoever is at ``origin``, with a chunk's weights when ``chunk`` is set."""

    origin: bytes
    message: Message
    chunk: ChunkState | None = None


class Shard:
    """The chunks of one server, their workers and what they wait for."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.chunks: dict[int, ChunkState] = {}
        self.seats: dict[int, Seat] = {}
        self._epoch = 0
        self._job = JobConfig()
        self._mode: Mode = build(self._job)
        self._updater: Updater | None = None
        self._layout: Layout | None = None
        self._early: deque[tuple[bytes, Attach]] = deque(maxlen=MAX_EARLY)

    # Events

    def view(self, view: View, now: float) -> list[Reply]:
        """Take a new view of the members: seat newcomers, forget those that are gone."""
        self._epoch = view.epoch
        workers = {peer.member: peer for peer in peers(view) if peer.role == "worker"}
        if view.job and not self.chunks:
            self._job = JobConfig(**view.job)
            self._mode = build(self._job)
        for member, peer in workers.items():
            seat = self.seats.setdefault(member, Seat(member, peer.rank, None))
            if seat.fresh and peer.initial:  # it was there from the beginning, and counts from the first clock
                seat.start = 0
        for member in [member for member in self.seats if member not in workers]:
            del self.seats[member]
            for chunk in self.chunks.values():
                chunk.forget(member)
        early, self._early = self._early, deque(maxlen=MAX_EARLY)
        replies = [reply for origin, attach in early for reply in self.receive(origin, attach, None, now)]
        return replies + list(self._advance_all())

    def receive(self, origin: bytes, message: Message, payload: Any, now: float) -> list[Reply]:
        """Take a worker's message and return what is to be said now.

        ``payload`` is the raw frame (bytes-like) of messages that have one. Raises BadMessage when the message
        cannot be meant; nothing has changed then.
        """
        member = getattr(message, "member", 0)
        seat = self.seats.get(member)
        if seat is None:
            if isinstance(message, Attach) and message.epoch > self._epoch:
                self._early.append((origin, message))
                return []
            text = f"server {self.rank} does not know you: you left, or the others declared you dead"
            return [Reply(origin, Error(getattr(message, "request", 0), "evicted", text))]
        match message:
            case Push() | Skip():
                return list(self._push(origin, seat, message, payload, now))
            case Pull():
                return list(self._pull(origin, message, now))
            case Scale():
                return list(self._scale(origin, message, now))
            case Attach():
                return self._attach(origin, seat, message)
            case Start():
                return list(self._start(origin, seat, message))
            case Retire():
                seat.start = None
                return [Reply(origin, Ok(message.request)), *self._advance_all()]
            case SetLr():
                self._ready().lr.set(message.clock, message.lr)
                return [Reply(origin, Ok(message.request))]
            case Init():
                return self._init(origin, message)
            case InitChunk():
                return self._fill(origin, message, payload)
            case Inquire():
                return [Reply(origin, self._inquire(message))]
            case _:
                raise BadMessage(f"a server has no use for {type(message).__name__}")

    def report(self, now: float) -> dict[str, Any]:
        """Return what the status shows of this server."""
        waiting: dict[tuple[int, tuple[int, ...]], float] = {}
        for chunk in self.chunks.values():
            for waiter in chunk.waiters:
                key = (waiter.clock, self._mode.missing(chunk, waiter, self.seats))
                waiting[key] = max(waiting.get(key, 0.0), now - waiter.since)
        return {
            "clock": max((chunk.version for chunk in self.chunks.values()), default=0),
            "bytes": sum(chunk.weights.nbytes for chunk in self.chunks.values()),
            "waiting": [
                {"clock": clock, "for": list(ranks), "seconds": round(seconds, 2)}
                for (clock, ranks), seconds in waiting.items()
                if seconds > 1.0
            ],
        }

    # The beginning

    def _init(self, origin: bytes, message: Init) -> list[Reply]:
        layout = Layout.unpack(message.layout)
        if self._updater is None or (layout != self._layout and not self._started()):
            if message.servers < 1 or message.chunk_size < 1:
                raise BadMessage(f"Init for {message.servers} servers with chunks of {message.chunk_size} bytes")
            updater = Updater(self._job)
            try:
                self.chunks = {}
                for chunk in layout.chunks(message.servers, message.chunk_size):
                    if chunk.server == self.rank:
                        weights = np.zeros(chunk.size, chunk.dtype)
                        self.chunks[chunk.index] = ChunkState(chunk, weights, {})
            except MemoryError:
                self.chunks = {}
                text = f"server {self.rank} has no memory for its share of a model of {layout.nbytes} bytes"
                return [Reply(origin, Error(message.request, "memory", text))]
            self._updater, self._layout = updater, layout
        return [Reply(origin, Ok(message.request))]

    def _fill(self, origin: bytes, message: InitChunk, payload: Any) -> list[Reply]:
        updater, chunk = self._ready(), self._chunk(message.chunk)
        values = self._array(chunk, payload)
        if not self._started():
            np.copyto(chunk.weights, values)
            chunk.slots = updater.optimizer.init(chunk.weights)
            chunk.filled = True
        return [Reply(origin, Ok(message.request))]

    def _started(self) -> bool:
        return any(chunk.version or chunk.done for chunk in self.chunks.values())

    # Coming and going

    def _attach(self, origin: bytes, seat: Seat, message: Attach) -> list[Reply]:
        first = seat.fresh and seat.start is not None
        seat.fresh = False
        if first:
            return [Reply(origin, Attached(message.request, 0))]
        seat.start = None
        clock = 0
        for chunk in self.chunks.values():
            entry = self._mode.entry(chunk, self.seats)
            chunk.holds[seat.member] = entry
            clock = max(clock, entry)
        return [Reply(origin, Attached(message.request, clock))]

    def _start(self, origin: bytes, seat: Seat, message: Start) -> Iterator[Reply]:
        seat.start = message.clock
        for chunk in self.chunks.values():
            if seat.member in chunk.holds:
                chunk.holds[seat.member] = message.clock
            chunk.done[seat.member] = max(message.clock, chunk.done.get(seat.member, 0))
        yield Reply(origin, Ok(message.request))
        yield from self._advance_all()

    # A gradient's way

    def _push(self, origin: bytes, seat: Seat, message: Push | Skip, payload: Any, now: float) -> Iterator[Reply]:
        self._ready()
        chunk = self._chunk(message.chunk)
        gradient = self._array(chunk, payload) if isinstance(message, Push) else None
        waiter = Waiter(origin, seat.member, message.request, message.clock + 1, message.pull, now)
        if message.clock < chunk.done.get(seat.member, 0):  # a retry: it counted already, only its answer is due
            if chunk.aggregate is not None and message.clock == chunk.version:
                yield Reply(origin, Squares(message.request, message.chunk, chunk.squares))
                return
            chunk.waiters = [w for w in chunk.waiters if (w.member, w.request) != (seat.member, message.request)]
        elif self._mode.late(chunk, message.clock):
            yield Reply(origin, Late(message.request, message.chunk, chunk.version))
            return
        else:
            if self._mode.lockstep and message.clock != chunk.version:
                raise BadMessage(f"a push for clock {message.clock} while clock {chunk.version} is collected")
            chunk.done[seat.member] = message.clock + 1
            chunk.holds.pop(seat.member, None)
            chunk.pending[seat.member] = Contribution(
                seat.member,
                seat.rank,
                message.clock,
                message.version if isinstance(message, Push) else chunk.version,
                message.examples if isinstance(message, Push) else 0.0,
                message.scale if isinstance(message, Push) else 1.0,
                gradient,
            )
        chunk.waiters.append(waiter)
        yield from self._advance(chunk)

    def _pull(self, origin: bytes, message: Pull, now: float) -> Iterator[Reply]:
        chunk = self._chunk(message.chunk)
        if not chunk.filled:
            raise BadMessage(f"a pull of chunk {message.chunk} before its values were set")
        chunk.waiters = [w for w in chunk.waiters if (w.member, w.request) != (message.member, message.request)]
        chunk.waiters.append(Waiter(origin, message.member, message.request, message.clock, True, now))
        yield from self._advance(chunk)

    def _scale(self, origin: bytes, message: Scale, now: float) -> Iterator[Reply]:
        chunk = self._chunk(message.chunk)
        chunk.waiters.append(Waiter(origin, message.member, message.request, message.clock + 1, True, now))
        if message.clock == chunk.version and chunk.aggregate is not None:
            self._ready().finish(chunk, message.scale)
            chunk.version += 1
        yield from self._advance(chunk)

    def _advance_all(self) -> Iterator[Reply]:
        for chunk in self.chunks.values():
            yield from self._advance(chunk)

    def _advance(self, chunk: ChunkState) -> Iterator[Reply]:
        """Apply what is due and answer whoever may go on, until nothing more follows from it."""
        while True:
            while (due := self._mode.due(chunk, self.seats)) is not None:
                yield from self._close(chunk, due)
            holds = len(chunk.holds)
            waiters, chunk.waiters = chunk.waiters, []
            for waiter in waiters:
                if self._mode.free(chunk, waiter, self.seats):
                    yield self._answer(chunk, waiter)
                else:
                    chunk.waiters.append(waiter)
            if self._mode.idle(chunk, self.seats):
                chunk.version += 1
            elif len(chunk.holds) == holds:
                return

    def _close(self, chunk: ChunkState, due: list[Contribution]) -> Iterator[Reply]:
        """Take contributions into the weights, or into the aggregate whose norm is to be known first."""
        for contribution in due:
            del chunk.pending[contribution.member]
        if self._mode.lockstep and self._job.clip_norm is not None:
            yield from self._first_phase(chunk, due)
            return
        staleness = max(self._mode.staleness(chunk, c, self.seats) for c in due)
        self._ready().apply(chunk, due, staleness)
        chunk.version += 1
        for waiter in chunk.waiters:
            if any(waiter.member == c.member for c in due):
                waiter.staleness = staleness

    def _first_phase(self, chunk: ChunkState, due: list[Contribution]) -> Iterator[Reply]:
        chunk.squares = self._ready().combine(chunk, due)
        chunk.scalers = {contribution.member for contribution in due} & self.seats.keys()
        if not chunk.scalers:
            chunk.aggregate = None
        asked = [w for w in chunk.waiters if w.member in chunk.scalers and w.clock == chunk.version + 1]
        chunk.waiters = [w for w in chunk.waiters if w not in asked]
        for waiter in asked:
            yield Reply(waiter.origin, Squares(waiter.request, chunk.chunk.index, chunk.squares))

    def _answer(self, chunk: ChunkState, waiter: Waiter) -> Reply:
        index = chunk.chunk.index
        if chunk.holds.get(waiter.member, chunk.version + 1) <= chunk.version and waiter.pull:
            del chunk.holds[waiter.member]
        if waiter.pull:
            made = Weights(waiter.request, index, chunk.version, waiter.staleness)
            return Reply(waiter.origin, made, chunk)
        return Reply(waiter.origin, Pushed(waiter.request, index, chunk.version, waiter.staleness))

    def _inquire(self, message: Inquire) -> Waiting:
        known: dict[int, tuple[ChunkState, Waiter]] = {
            waiter.request: (chunk, waiter)
            for chunk in self.chunks.values()
            for waiter in chunk.waiters
            if waiter.member == message.member
        }
        ranks: set[int] = set()
        clock = 0
        for chunk, waiter in known.values():
            ranks.update(self._mode.missing(chunk, waiter, self.seats))
            clock = max(clock, waiter.clock)
        unknown = tuple(request for request in message.requests if request not in known)
        return Waiting(message.request, unknown, clock, tuple(sorted(ranks)))

    # Checks

    def _ready(self) -> Updater:
        if self._updater is None:
            raise BadMessage("nothing was initialised: kv.init comes first")
        return self._updater

    def _chunk(self, index: int) -> ChunkState:
        chunk = self.chunks.get(index)
        if chunk is None:
            raise BadMessage(f"server {self.rank} does not hold chunk {index}")
        return chunk

    @staticmethod
    def _array(chunk: ChunkState, payload: Any) -> HostArray:
        if memoryview(payload).nbytes != chunk.chunk.nbytes:
            got = memoryview(payload).nbytes
            raise BadMessage(f"chunk {chunk.chunk.index} has {chunk.chunk.nbytes} bytes, the frame {got}")
        return np.frombuffer(payload, chunk.chunk.dtype)
