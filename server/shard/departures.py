"""Departures: chunks that a server hands over to others, one at a time, each between two of its clocks.

A chunk that is to go is taken out of the shard in a moment in which nothing of it is half done, and all of its state is
sent. Until the target says that it has taken it the chunk may come back, as when the target dies or the scheduler
wants something else. From then on it is the target's: that is told so (ChunkGrant) until it has heard it, and whoever
asks here is told where it is. So never do two servers answer for a chunk, and the scheduler is not needed for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.protocol.messages import ChunkAnswer, ChunkBegin, ChunkGrant, ChunkLayout, ChunkPart, MoveOrder, MoveReport
from ps.protocol.messages.words import MoveState
from ps.protocol.placement import Where, holder
from ps.server.send import SCHEDULER, Send
from ps.server.shard.chunk import ChunkState
from ps.server.shard.chunk_transfer import is_quiet, packed
from ps.server.shard.gradient_shard import GradientShard
from ps.xp import HostArray

AGAIN = 1.0
"""Seconds after which what is not answered is sent again, and what was refused is tried again."""
SOON = 0.2
"""Seconds after which a server is told of the model again that has not answered."""
LONGEST = 30.0
"""Seconds after which a chunk is sent again, at most."""
PIECE = 8 << 20
"""Bytes of an array in one message, at most."""

WHY = {
    "full": "has no memory for it",
    "unshared": "does not have the memory of this host in which workers read the weights",
}
"""Why a target does not take a chunk, for people."""


@dataclass(slots=True)
class Departure:
    """A chunk on its way to the member ``target``; ``granted`` once it is that one's."""

    chunk: ChunkState
    target: int
    rank: int
    number: int
    sent: float
    words: dict[int, int]
    """Worker -> the number of the last word of it that the chunk has heard."""
    ranks: dict[int, int]
    """Of these workers."""
    state: tuple[dict[str, Any], dict[str, HostArray]]
    """All of it, as it travels."""
    patience: float
    """Seconds after which it is sent again; longer each time, for a link that is slow."""
    granted: bool = False
    refused: bool = False

    @property
    def index(self) -> int:
        """The chunk's."""
        return self.chunk.chunk.index


class Departures:
    """Of one server."""

    def __init__(self, shard: GradientShard, member: int) -> None:
        self._shard = shard
        self.member = member
        self.epoch = 0
        """That of the latest view."""
        self._order = MoveOrder(0, 0, 0, (), False)
        self._wanted: set[int] = set()
        self._attempts = 0
        self._rests = 0.0
        """Until when nothing is tried: a target has just refused."""
        self._ready: set[int] = set()
        """Servers that have answered, and know the model."""
        self.under_way: Departure | None = None
        self._handed: dict[int, tuple[int, int]] = {}
        """Chunk -> rank and id of the server that it was handed over to."""
        self._unshown: set[int] = set()
        """Those of them of which the scheduler has not said yet that it knows."""
        self._why = ""
        self._lost = ""

    def order(self, order: MoveOrder) -> None:
        """Take what the scheduler wants."""
        if order.number >= self._order.number:
            self._why = self._why if order.number == self._order.number else ""
            self._order = order
            self._wanted = {index for index in order.chunks if index in self._shard.chunks}

    def report(self) -> Send:
        """Return where this server is."""
        left = len(self._wanted) + (self.under_way is not None)
        state: MoveState = "lost" if self._lost else "moving" if left else "done"
        handed = tuple((index, self._handed[index][0]) for index in sorted(self._unshown))
        number, why = self._order.number, self._lost or self._why
        return Send(SCHEDULER, MoveReport(self.member, number, state, handed, left, why))

    def where(self, index: int) -> int | None:
        """Return the rank of the server that a chunk was handed over to, if it was."""
        found = self._handed.get(index)
        return found[0] if found is not None else None

    @property
    def is_over(self) -> bool:
        """Whether nothing is on its way, and the scheduler knows of all that was handed over."""
        return self.under_way is None and not self._unshown

    # Sending

    def turn(self, now: float) -> list[Send]:
        """Send the next chunk off, if there is one that may go now."""
        if not self._wanted or self.under_way is not None or now < self._rests or self._shard.layout is None:
            return []
        if self._order.target not in self._ready:  # no chunk lies still before its target is known to listen
            self._rests = now + SOON
            return [Send(self._order.target, ChunkLayout(self.member, self._shard.layout.pack()))]
        chunks = self._shard.chunks
        index = next((i for i in sorted(self._wanted) if i in chunks and is_quiet(chunks[i])), None)
        if index is None:
            return []
        self._wanted.discard(index)
        self._attempts += 1
        workers = self._shard.participants.values()
        words, ranks = {each.member: each.word for each in workers}, {each.member: each.rank for each in workers}
        chunk, target = chunks.pop(index), (self._order.target, self._order.rank)
        chunk.own()  # what is still to be sent to workers is theirs
        state = packed(chunk, workers, words)
        self.under_way = Departure(chunk, *target, self._attempts, now, words, ranks, state, AGAIN)
        return list(self._send(self.under_way))

    def _send(self, leaving: Departure) -> Iterator[Send]:
        about, arrays = leaving.state
        head = self.member, leaving.number, leaving.index
        yield Send(leaving.target, ChunkBegin(*head, self.epoch, about))
        for name, array in arrays.items():
            flat = array.reshape(-1).view(np.uint8)
            for start in range(0, flat.nbytes, PIECE):
                yield Send(leaving.target, ChunkPart(*head, name, start), payload=flat[start : start + PIECE])

    def tick(self, now: float) -> list[Send]:
        """Send again what is not answered."""
        leaving = self.under_way
        sends = [self.report()] if self._wanted or leaving or self._unshown or self._lost else []
        if leaving is None or now - leaving.sent < (AGAIN if leaving.granted else leaving.patience):
            return sends
        leaving.sent, leaving.patience = now, min(2 * leaving.patience, LONGEST)
        return [*sends, *([self._grant(leaving)] if leaving.granted else self._send(leaving))]

    def _grant(self, leaving: Departure) -> Send:
        return Send(leaving.target, ChunkGrant(self.member, leaving.number, leaving.index))

    # What comes of it

    def hear(self, answer: ChunkAnswer, now: float) -> tuple[list[Send], Departure | None]:
        """Take a target's answer; return what is to be said, and the departure whose chunk has just become its."""
        leaving = self.under_way
        if not answer.number:
            self._ready.add(answer.member)
            self._rests = 0.0
            return [], None
        about = (answer.member, answer.number, answer.chunk)
        if leaving is None or about != (leaving.target, leaving.number, leaving.index):
            return [], None
        if leaving.granted:
            if answer.state != "held":
                return [], None
            self.under_way = None
            return ([] if self._wanted else [self.report()]), None
        if answer.state == "taken":
            leaving.granted, leaving.sent, self._why = True, now, ""
            self._handed[leaving.index] = leaving.rank, leaving.target
            self._unshown.add(leaving.index)
            return [self._grant(leaving)], leaving
        if answer.state in WHY:
            self._why = f"server {leaving.rank} {WHY[answer.state]}"
            leaving.refused, self._rests = True, now + AGAIN
        return [], None

    def view(self, epoch: int, servers: Set[int], placed: Where) -> None:
        """Learn which servers are left, and what the scheduler knows: which chunks are elsewhere.

        What was handed over to a server that has died, of which the scheduler did not know then, is lost; unless it is
        at a third one, which that has given it to.
        """
        self.epoch = epoch
        for index, (rank, member) in list(self._handed.items()):
            known = holder(index, self._shard.job.servers, placed)
            if member in servers:
                if known == rank:
                    self._unshown.discard(index)
            elif index not in self._unshown:
                del self._handed[index]
            elif known in (rank, self._shard.rank):
                self._lost = f"server {rank} is gone, and with it chunk {index}, which it had just taken over"
        leaving = self.under_way
        if leaving is not None and leaving.granted and leaving.target not in servers:
            self.under_way = None
        if self._order.target not in servers:
            self._wanted = set()

    def may_return(self, servers: Set[int]) -> bool:
        """Whether the chunk that is on its way is to come back: its target is gone, refuses it, or it need not go."""
        leaving = self.under_way
        if leaving is None or leaving.granted:
            return False
        wanted = leaving.index in self._order.chunks and leaving.target == self._order.target
        return leaving.refused or leaving.target not in servers or not wanted

    def take_back(self) -> Departure:
        """Return the departure that has come to nothing; the chunk is tried again if it is still to go."""
        leaving, self.under_way = self.under_way, None
        assert leaving is not None
        if leaving.index in self._order.chunks:
            self._wanted.add(leaving.index)
        return leaving

    def arrived(self, index: int) -> None:
        """A chunk is here from now on."""
        self._handed.pop(index, None)
        self._unshown.discard(index)
