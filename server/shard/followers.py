"""Followers: snapshots of this server's chunks for those who read the model while it is trained.

They are no members: nobody waits for one, and what one costs is a copy of each chunk for a snapshot that it asks for.
A snapshot is of one version of each chunk, which is copied just before the chunk goes on to the next; until then a
chunk is only marked. Where clocks are closed for all at once (sync, and the rounds of a federated job) that version is
the clock that was asked for, the same on all servers; elsewhere it is what each chunk was at when it was asked for.

A chunk that is marked is not handed over to another server before its copy is made, which stays here. One that came
after all chunks were marked is marked when it is asked for, if that is not too late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from typing import TypeAlias

from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.protocol.messages import Error, Mark, Marked, Moved, Peek, Peeked
from ps.server.job_key import JobKey
from ps.server.loan import Loan
from ps.server.send import Origin, Send
from ps.server.shard.chunk import ChunkState
from ps.server.shard.shard import Shard
from ps.xp import HostArray

Where: TypeAlias = Callable[[int], int | None]

MOST = 4
"""Followers at a time, each with one snapshot at most: so they cost no more than that many models."""
IDLE = 10.0
"""Seconds after which one that has asked nothing is forgotten."""


@dataclass(slots=True)
class FollowerRecord:
    """One follower: ``due`` says at which version a chunk is to be copied, ``kept`` are the copies."""

    origin: Origin
    seen: float
    clock: int = -1
    masters: bool = False
    told: set[int] = field(default_factory=set)
    """Ranks of servers that it was told of."""
    due: dict[int, int] = field(default_factory=dict)
    kept: dict[int, Loan] = field(default_factory=dict, repr=False)

    def drop(self) -> None:
        """There is no snapshot."""
        self.clock, self.due, self.kept = -1, {}, {}


class Followers:
    """What followers of one shard want, and have."""

    def __init__(self, rank: int, key: JobKey, shard: Shard, where: Where = lambda index: None) -> None:
        """``where`` returns the rank of the server that has, or gets, a chunk; None for what is no chunk that moves."""
        self._where = where
        self._rank = rank
        self._key = key
        self._shard = shard
        self._records: dict[int, FollowerRecord] = {}
        self._held: set[int] = set()
        """The chunks that were here at any time while somebody followed."""

    def __len__(self) -> int:
        return len(self._records)

    def receive(self, origin: Origin, message: Mark | Peek, now: float) -> Send:
        """Return the answer to a follower. Raises BadMessage when the message cannot be meant."""
        if message.token != self._key.leave(message.follower):
            text = f"server {self._rank} knows no such follower: this is not what the scheduler gave it"
            return Send(origin, Error(message.request, "token", text))
        record = self._records.get(message.follower)
        if record is not None:
            record.origin, record.seen = origin, now
        if isinstance(message, Peek):
            return self._peek(origin, message, record)
        if record is None:
            self._forget(now)
            if len(self._records) >= MOST:
                text = f"{MOST} followers read from server {self._rank} already, which is the most at a time"
                return Send(origin, Error(message.request, "busy", text))
            record = self._records[message.follower] = FollowerRecord(origin, now)
        if (record.clock, record.masters) != (message.clock, message.masters):
            self._mark(record, message)
        return self._state(origin, message, record)

    def tick(self, now: float) -> list[Send]:
        """Forget those who ask nothing any more; return what the others are to hear: that chunks of this server are, or
        are about to be, another one's, so that they know that one before it has the last weights of these."""
        self._forget(now)
        self._held |= self._shard.chunks.keys()
        ranks = {rank for index in self._held if (rank := self._where(index)) not in (None, self._rank)}
        told = [(record, rank) for record in self._records.values() for rank in sorted(ranks - record.told)]
        for record, rank in told:
            record.told.add(rank)
        return [Send(record.origin, Moved(0, rank)) for record, rank in told]

    def leave(self, origin: Origin) -> None:
        """Forget one that goes."""
        for follower in [each for each, record in self._records.items() if record.origin == origin]:
            self._records.pop(follower).drop()

    def _forget(self, now: float) -> None:
        for follower in [each for each, record in self._records.items() if now - record.seen > IDLE]:
            self._records.pop(follower).drop()

    def last(self, now: float) -> Iterator[Send]:
        """Yield the weights as they are in the end, for those who are still there."""
        self._forget(now)
        for record in self._records.values():
            record.drop()
            for index, chunk in self._chunks().items():
                about = Peeked(0, chunk.version if self._shard.job.steady else self._reached, index, True)
                yield Send(record.origin, about, Loan(chunk.chunk, _wanted(chunk, record), chunk.shown))

    @property
    def _reached(self) -> int:
        steady, chunks = self._shard.job.steady, self._shard.chunks.values()
        return max((chunk.version if steady else chunk.reached for chunk in chunks), default=0)

    def _chunks(self) -> dict[int, ChunkState]:
        """Return this server's chunks, none before all have their first values."""
        chunks = self._shard.chunks
        return chunks if all(chunk.filled for chunk in chunks.values()) else {}

    def _state(self, origin: Origin, message: Mark | Peek, record: FollowerRecord | None) -> Send:
        kept = record is not None and record.clock == message.clock >= 0
        return Send(origin, Marked(message.request, message.clock, self._reached, kept))

    def _mark(self, record: FollowerRecord, message: Mark) -> None:
        """Have the snapshot made that is wanted now, unless a chunk is beyond it, or has no values yet."""
        record.drop()
        record.masters = message.masters
        chunks, steady = self._chunks(), self._shard.job.steady
        late = steady and any(chunk.version > message.clock for chunk in chunks.values())
        if message.clock < 0 or late or len(chunks) < len(self._shard.chunks):
            return
        record.clock = message.clock
        for index, chunk in chunks.items():
            record.due[index] = message.clock if steady else chunk.version
            self._next(chunk)

    def _next(self, chunk: ChunkState) -> None:
        """Tell a chunk which version of it is wanted next."""
        index = chunk.chunk.index
        due = min((record.due[index] for record in self._records.values() if index in record.due), default=-1)
        chunk.wish("followers", due, self._keep)

    def _keep(self, chunk: ChunkState, version: int) -> None:
        """Copy a chunk for all who want a version of it that is before this one."""
        index = chunk.chunk.index
        for record in self._records.values():
            if record.due.get(index, version) >= version:
                continue
            del record.due[index]
            try:
                record.kept[index] = Loan(chunk.chunk, _wanted(chunk, record).copy())
            except MemoryError:  # training goes on; the follower is told that it has no snapshot
                record.drop()
        self._next(chunk)

    def _peek(self, origin: Origin, message: Peek, record: FollowerRecord | None) -> Send:
        index, chunk = message.chunk, self._shard.chunks.get(message.chunk)
        values = record.kept.get(index) if record is not None and record.clock == message.clock else None
        if values is None and chunk is None:
            return self._elsewhere(origin, message, record)
        if record is None or record.clock != message.clock:
            return self._state(origin, message, None)
        if chunk is not None and values is None:
            if index not in record.due and not self._late(chunk, message.clock):  # it has come since
                record.due[index] = message.clock if self._shard.job.steady else chunk.version
                self._next(chunk)
            if record.due.get(index) == chunk.version:
                self._keep(chunk, chunk.version + 1)
            values = record.kept.get(index)
        if values is None:
            return self._state(origin, message, record if index in record.due else None)
        about = Peeked(message.request, message.clock, index, False)
        return Send(origin, about, Loan(values.chunk, values.weights))

    def _late(self, chunk: ChunkState, clock: int) -> bool:
        return not chunk.filled or (self._shard.job.steady and chunk.version > clock)

    def _elsewhere(self, origin: Origin, message: Peek, record: FollowerRecord | None) -> Send:
        """Say where a chunk is that is not here, or to ask again where that is not settled. Raises BadMessage."""
        if (rank := self._where(message.chunk)) is None:
            raise BadMessage(f"server {self._rank} does not hold chunk {message.chunk}")
        if rank == self._rank:
            return self._state(origin, message, record)
        return Send(origin, Moved(message.request, rank))


def _wanted(chunk: ChunkState, record: FollowerRecord) -> HostArray:
    return chunk.master if record.masters and chunk.master is not None else chunk.weights
