"""Arrivals: chunks that other servers hand over to this one, from their first bytes until they are granted.

What a worker says for all chunks at once (Attach, Start, Suspend) reaches servers at different times, so a chunk may
have missed words that its new server has heard, and its new server words that its old one has. A worker numbers them:
the later word counts, and what a chunk has missed is done to it when it arrives, or comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import ChunkAnswer, ChunkBegin, ChunkGrant, ChunkLayout, ChunkPart
from ps.protocol.messages.words import Arrival
from ps.server.send import Send
from ps.server.shard.chunk import ChunkState
from ps.server.shard.chunk_transfer import Spoken, Unshareable, room_of, spoken, unpacked
from ps.server.shard.gradient_shard import GradientShard
from ps.xp import HostArray


@dataclass(slots=True)
class Incomer:
    """A chunk on its way here, the ``number``-th attempt of the member ``source`` to hand one over."""

    source: int
    number: int
    epoch: int
    chunk: Chunk
    about: Mapping[str, Any]
    arrays: dict[str, HostArray]
    missing: int
    """Bytes that have not come."""
    came: set[tuple[str, int]] = field(default_factory=set)
    state: ChunkState | None = None
    """It, once all has come."""
    silence: int = 0
    """Looks at the time since its source has last said something of it."""


LONGEST = 90
"""Looks at the time, of about a second, after which a chunk is not expected any more of which its source says nothing.
A source that still wants to hand it over says so every half a minute at least."""


class Arrivals:
    """Of one server; of each other server at most one chunk is on its way."""

    def __init__(self, shard: GradientShard, member: int) -> None:
        self._shard = shard
        self._member = member
        self._layout: Layout | None = None
        self._chunks: dict[int, Chunk] = {}
        self._epoch = 0
        self._incomers: dict[int, Incomer] = {}
        self._granted: dict[int, tuple[int, int]] = {}
        """Server -> number and chunk of the last that it has granted."""

    def expects(self, index: int) -> bool:
        """Whether a chunk is on its way here."""
        return any(incomer.chunk.index == index for incomer in self._incomers.values())

    @property
    def has_taken(self) -> bool:
        """Whether a chunk is here that may be granted any moment."""
        return any(incomer.state is not None for incomer in self._incomers.values())

    def hear_layout(self, message: ChunkLayout) -> list[Send]:
        """Take the model that chunks are of; chunks of it may come then. Raises BadMessage."""
        if self._shard.layout is None:
            self._layout = Layout.unpack(message.layout)
        return [Send(message.member, ChunkAnswer(self._member, 0, 0, "taken"))]

    def _cut(self) -> Mapping[int, Chunk]:
        layout, job = self._shard.layout or self._layout, self._shard.job
        if not self._chunks and layout is not None:
            cut = layout.cut(job)
            self._chunks = {chunk.index: chunk for chunk in cut}
        return self._chunks

    def begin(self, message: ChunkBegin) -> list[Send]:
        """A server begins to hand a chunk over, or again. Raises BadMessage."""
        if self._granted.get(message.member, (-1, 0))[0] >= message.number:
            return []
        known = self._incomers.get(message.member)
        if known is not None and known.number > message.number:
            return []
        if known is not None and known.number == message.number:
            known.silence = 0
            return self._taken(known)
        chunk = self._cut().get(message.chunk)
        if chunk is None or message.chunk in self._shard.chunks:
            raise BadMessage(f"chunk {message.chunk} is handed over, which is here, or in no model")
        try:
            arrays = room_of(message.about, chunk)
        except MemoryError:
            return [self._answer(message, "full")]
        missing = sum(array.nbytes for array in arrays.values())
        about = message.member, message.number, message.epoch
        incomer = Incomer(*about, chunk, message.about, arrays, missing)
        self._incomers[message.member] = incomer
        return []

    def part(self, message: ChunkPart, payload: Any) -> list[Send]:
        """Take some bytes of a chunk's state. Raises BadMessage."""
        incomer = self._incomers.get(message.member)
        if incomer is None or (incomer.number, incomer.chunk.index) != (message.number, message.chunk):
            return []
        array = incomer.arrays.get(message.name)
        data = np.frombuffer(payload, np.uint8)
        if array is None or message.start + data.nbytes > array.nbytes:
            raise BadMessage(f"{message!r} with {data.nbytes} bytes that have no place")
        key = message.name, message.start
        if incomer.state is not None or key in incomer.came:
            return []
        array.reshape(-1).view(np.uint8)[message.start : message.start + data.nbytes] = data
        incomer.came.add(key)
        incomer.missing -= data.nbytes
        if incomer.missing > 0:
            return []
        refusal = self._complete(incomer)
        return [self._answer(message, refusal)] if refusal is not None else self._taken(incomer)

    def _taken(self, incomer: Incomer) -> list[Send]:
        """Say that a chunk is here, if it is, and this server knows whom its former one knows."""
        if incomer.state is None or incomer.epoch > self._epoch:
            return []
        answer = ChunkAnswer(self._member, incomer.number, incomer.chunk.index, "taken")
        return [Send(incomer.source, answer)]

    def _complete(self, incomer: Incomer) -> Arrival | None:
        """Put a chunk together of which all has come; return why it cannot be taken, if so."""
        layout, shard, chunk = self._shard.layout or self._layout, self._shard, incomer.chunk
        assert layout is not None
        del self._incomers[incomer.source]
        spoken(incomer.arrays)  # whether it makes sense
        shown = incomer.about.get("shown")
        if isinstance(shown, int) and shown >= 0 and shard.weights_memory(None) is None:
            return "unshared"  # workers are still to bring that memory, which a server that has a model takes no more
        try:
            optimizer = shard.adopt(layout).updater.optimizer(chunk)
            memory = shard.weights_memory(None)
            incomer.state = unpacked(incomer.about, incomer.arrays, chunk, layout, shard.job, optimizer, memory)
        except MemoryError:
            return "full"
        except Unshareable:
            return "unshared"
        self._incomers[incomer.source] = incomer
        return None

    def grant(self, message: ChunkGrant) -> tuple[list[Send], Incomer | None]:
        """A chunk is this server's from now on; return the answer, and the chunk if it was not before."""
        if not message.number:  # it stays where it was
            self._incomers.pop(message.member, None)
            return [], None
        about, held = (message.number, message.chunk), [self._answer(message, "held")]
        incomer = self._incomers.get(message.member)
        if incomer is None or incomer.state is None or (incomer.number, incomer.chunk.index) != about:
            return (held if self._granted.get(message.member) == about else []), None
        del self._incomers[message.member]
        self._granted[message.member] = about
        return held, incomer

    def tick(self) -> None:
        """Some time has passed."""
        for source, incomer in list(self._incomers.items()):
            incomer.silence += 1
            if incomer.silence > LONGEST:
                del self._incomers[source]

    def view(self, epoch: int, servers: Iterable[int]) -> list[Send]:
        """Nothing comes from servers that are gone; what has come is taken by those who go by a view as late."""
        self._epoch = epoch
        for source in self._incomers.keys() - set(servers):
            del self._incomers[source]
        return [send for incomer in self._incomers.values() for send in self._taken(incomer)]

    def _answer(self, message: ChunkBegin | ChunkPart | ChunkGrant, state: Arrival) -> Send:
        return Send(message.member, ChunkAnswer(self._member, message.number, message.chunk, state))


def adopt(known: Iterable[Spoken], shard: GradientShard) -> None:
    """Have the workers be as the former holder of a chunk knew them, where it has heard a later word of them."""
    for chunk in shard.chunks.values():
        chunk.slowest = None
    for each in known:
        participant = shard.participants.get(each.member)
        if participant is not None and each.word > participant.word:
            participant.start, participant.fresh = each.start, each.fresh
            participant.initial, participant.word, participant.attached = each.initial, each.word, each.attached


def settle(chunk: ChunkState, heard: Mapping[int, int], ranks: Mapping[int, int], shard: GradientShard) -> None:
    """Do to a chunk that arrives, or comes back, what it has missed meanwhile.

    ``heard``: worker -> the number of the last word of it that the chunk has heard; ``ranks`` of those workers.
    """
    participants, mode = shard.participants, shard.ready.mode
    chunk.slowest = None  # some may have come or gone
    for member in (chunk.done.keys() | chunk.holds.keys() | chunk.shadows.keys()) - participants.keys() - {0}:
        chunk.forget(member, ranks.get(member, -1))
    for member, participant in participants.items():
        if participant.word <= heard.get(member, 0):
            continue
        held = chunk.holds.get(member)
        chunk.retire(member)
        if participant.start is not None:
            late = participant.attached and mode.late(chunk, participant.start)
            chunk.hold(member, mode.join_clock(chunk, participants) if late else participant.start)
            if not participant.attached:
                chunk.count(member, participant.start)
        elif participant.attached:
            # where it was not held, servers without this chunk have said a clock, which is no earlier than this one: no
            # chunk is two clocks ahead of another, and while a clock is collected they say the one after theirs
            first = chunk.version if shard.job.lockstep else mode.join_clock(chunk, participants)
            chunk.hold(member, first if held is None else held)
