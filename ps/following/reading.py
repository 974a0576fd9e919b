"""Reading: how one snapshot is got from all servers. Messages in, messages out; no sockets and no clock.

First all servers are asked how far they are. Then all are told one clock, at or a little beyond the farthest: each
keeps its chunks as they are at that clock, unless one of them is beyond it by then, and then a later clock is tried.
The chunks are fetched as they get there. When training stands still meanwhile, as in a barrier, the clock that was
reached is taken after all. A chunk that another server has by now is asked of that one.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.half import SINGLE, is_half
from ps.protocol.layout import Chunk, Layout, dtype_of
from ps.protocol.messages import Error, Mark, Marked, Message, Moved, Peek, Peeked
from ps.protocol.placement import holder
from ps.xp import HostArray

WINDOW = 16 << 20
"""Bytes that are asked of one server at a time, unless a chunk is larger."""
RESEND = 2.0
"""Seconds without an answer after which a request is sent again."""
STILL = 1.0
"""Seconds without a new chunk after which training is taken to stand still."""
FIRST_NAP, LAST_NAP = 0.002, 0.1
"""Seconds until a chunk is asked for again that was not there yet, at first and at most."""
AHEAD = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
"""How many clocks beyond the farthest server the snapshot is to be, by attempt."""

Asked = tuple[int, Message]
"""(rank of a server, what it is asked)"""


@dataclass(frozen=True, slots=True)
class Permit:
    """What the scheduler gives to a follower, and the servers want to see."""

    follower: int
    token: int

    def mark(self, request: int, clock: int, *, masters: bool) -> Mark:
        """Return what a server is told that is to keep a clock, or -1 for none."""
        return Mark(request, self.follower, self.token, clock, masters)


@dataclass(slots=True)
class ChunkSet:
    """The flat vectors of a model that are being filled, chunk by chunk."""

    chunks: Sequence[Chunk]
    flat: dict[str, HostArray]
    missing: set[int] = field(default_factory=set)
    clocks: set[int] = field(default_factory=set)

    @staticmethod
    def of(layout: Layout, chunks: Sequence[Chunk], *, masters: bool) -> ChunkSet:
        """Return room for a model; ``masters``: half precision comes in float32."""
        flat = {
            section: np.empty(size, SINGLE if masters and is_half(dtype_of(section)) else dtype_of(section))
            for section, (_, size) in layout.sections().items()
        }
        return ChunkSet(chunks, flat, {chunk.index for chunk in chunks})

    def take(self, index: int, clock: int, payload: Any) -> None:
        """Land a chunk. Raises BadMessage for one that does not fit."""
        if not index < len(self.chunks):
            raise BadMessage(f"chunk {index} of a model of {len(self.chunks)}")
        chunk = self.chunks[index]
        target = self.flat[chunk.section][chunk.start : chunk.stop]
        if (got := memoryview(payload).nbytes) != target.nbytes:
            raise BadMessage(f"chunk {index} has {target.nbytes} bytes, the frame {got}", "payload size")
        np.copyto(target.view(np.uint8), np.frombuffer(payload, np.uint8))
        self.missing.discard(index)
        self.clocks.add(clock)


class Reading:
    """One snapshot on its way; ``done`` once all chunks have come."""

    def __init__(
        self,
        layout: Layout,
        job: JobConfig,
        permit: Permit,
        numbers: itertools.count[int],
        *,
        masters: bool,
        now: float,
        servers: Collection[int] = (),
        where: dict[int, int] | None = None,
    ) -> None:
        """``numbers`` are those of this follower's requests; ``servers``: their ranks, those of the job's first where
        nothing is said; ``where``: chunk -> rank, of those that are not where the layout has them, as far as is known.
        """
        self._dealt, self._where = job.servers, {} if where is None else where
        self.strays = False
        """Whether a chunk is at a server that this reading does not know."""
        self._steady = job.steady
        self._permit, self._numbers, self._masters = permit, numbers, masters
        chunks = layout.cut(job)
        self.found = ChunkSet.of(layout, chunks, masters=masters)
        self.clock = -1
        self._attempt = 0
        self._reached = dict.fromkeys(servers or range(job.servers), -1)
        self._kept: set[int] = set()
        """The servers that have, or will have, this clock."""
        self._waiting: dict[int, deque[Chunk]] = {rank: deque() for rank in self._reached}
        """Chunks that are to be asked for."""
        self._open: dict[int, tuple[int, Message, float]] = {}
        """Requests that are not answered: server, message, when it was sent."""
        self._again: dict[int, tuple[float, float]] = {}
        """Servers that are not there yet: when they are asked again, and after how long."""
        self._moved = now
        """When something came that brings this on."""
        self._rests = now
        """Until when nothing is asked: a server has just said that it cannot answer."""

    @property
    def done(self) -> bool:
        """Whether all is here."""
        return not self.found.missing

    def _mark(self, clock: int) -> Mark:
        return self._permit.mark(next(self._numbers), clock, masters=self._masters)

    def tick(self, now: float) -> list[Asked]:
        """Return what is to be asked now."""
        if self.clock >= 0 and self._attempt and now - self._moved > STILL:
            return self._begin(now, attempt=0)
        if now < self._rests:
            return []
        if self.clock < 0 and not self._open:
            return [self._ask(rank, self._mark(-1), now) for rank in self._reached]
        asked = self._resent(now)
        if len(self._kept) == len(self._reached):
            for rank in self._reached:
                asked += self._fetch(rank, now)
        return asked

    def hear(self, rank: int, message: Message, payload: Any, now: float) -> list[Asked]:
        """Take a server's answer. Raises BadMessage for one that cannot be."""
        request = getattr(message, "request", 0)
        if request not in self._open or self._open[request][0] != rank:
            return []  # late, or to what was asked before
        _, question, _ = self._open.pop(request)
        match message:
            case Peeked() if isinstance(question, Peek):
                if (message.chunk, message.clock) != (question.chunk, question.clock):
                    raise BadMessage(f"{message!r} in answer to {question!r}")
                self.found.take(message.chunk, message.clock, payload)
                self._again.pop(rank, None)
                self._moved = now
                return self._fetch(rank, now)
            case Marked() if isinstance(question, Mark):
                self._reached[rank] = message.reached
                return self._marked(rank, question.clock, message, now)
            case Marked() if isinstance(question, Peek):
                self._reached[rank] = message.reached
                if not message.kept:
                    return self._begin(now, attempt=self._attempt + 1)
                self._waiting[rank].appendleft(self.found.chunks[question.chunk])
                nap = min(LAST_NAP, 2 * self._again[rank][1]) if rank in self._again else FIRST_NAP
                self._again[rank] = now + nap, nap
            case Moved() if isinstance(question, Peek):
                self._where[question.chunk] = message.rank
                if message.rank in self._waiting:
                    self._waiting[message.rank].append(self.found.chunks[question.chunk])
                else:
                    self.strays = True
                return [asked for to in {rank, message.rank} & self._waiting.keys() for asked in self._fetch(to, now)]
            case Error():  # it was replaced, and knows nothing of this
                self._rests = now + LAST_NAP
                self._begin(now, attempt=0, known=False)
        return []

    def _marked(self, rank: int, clock: int, message: Marked, now: float) -> list[Asked]:
        if clock < 0:
            return [] if min(self._reached.values()) < 0 else self._begin(now, attempt=0)
        if not message.kept:
            return self._begin(now, attempt=self._attempt + 1)
        self._kept.add(rank)
        self._moved = now
        return self.tick(now)

    def _begin(self, now: float, *, attempt: int, known: bool = True) -> list[Asked]:
        """Choose a clock, by how far the servers are, and have all keep it."""
        self._attempt = min(attempt, len(AHEAD) - 1) if self._steady else 0
        self._open.clear()
        self._again.clear()
        self._kept.clear()
        self._moved = now
        self.found.missing = {chunk.index for chunk in self.found.chunks}
        self.found.clocks.clear()
        if not known:
            self.clock, self._reached = -1, dict.fromkeys(self._reached, -1)
            return []
        self.clock = max(self._reached.values()) + AHEAD[self._attempt]
        self._waiting = {rank: deque() for rank in self._reached}
        for chunk in self.found.chunks:
            at = holder(chunk.index, self._dealt, self._where)
            self._waiting[at if at in self._waiting else min(self._waiting)].append(chunk)  # any knows where it is
        return [self._ask(rank, self._mark(self.clock), now) for rank in self._reached]

    def _fetch(self, rank: int, now: float) -> list[Asked]:
        if now < self._again.get(rank, (0.0, 0.0))[0]:
            return []
        under_way = [asked.chunk for to, asked, _ in self._open.values() if to == rank and isinstance(asked, Peek)]
        chunks, sent = self.found.chunks, list[Asked]()
        room = WINDOW - sum(chunks[index].nbytes for index in under_way)
        waiting = self._waiting[rank]
        while waiting and (room >= waiting[0].nbytes or not under_way):
            if rank in self._again and under_way:
                break  # it was not there yet: one is enough to find out
            chunk = waiting.popleft()
            under_way.append(chunk.index)
            room -= chunk.nbytes
            about = self._permit.follower, self._permit.token, self.clock, chunk.index
            sent.append(self._ask(rank, Peek(next(self._numbers), *about), now))
        return sent

    def _ask(self, rank: int, message: Mark | Peek, now: float) -> Asked:
        self._open[message.request] = rank, message, now
        return rank, message

    def _resent(self, now: float) -> list[Asked]:
        late = [(request, *row) for request, row in self._open.items() if now - row[2] > RESEND]
        for request, rank, message, _ in late:
            self._open[request] = rank, message, now
        return [(rank, message) for _, rank, message, _ in late]
