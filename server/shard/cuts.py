"""Cuts: this server's part of a checkpoint, from the order to make it until it is written. No sockets, no clock.

Every chunk is marked with the clock of the cut. Just before it goes on from there it is copied, and until then in
moments in which nothing else is to be done; so nobody waits for a checkpoint. Where clocks are closed for all at once
that is the state after the same clock everywhere; elsewhere it is each chunk as it was when the order came, with the
list of what is counted in it. What is copied is written by somebody else (``write``), and then let go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ps.checkpoint.chunk_snapshot import ChunkSnapshot
from ps.protocol.layout import Layout
from ps.protocol.messages import CheckpointOrder, CheckpointPart
from ps.protocol.messages.words import CUT_OVER, PartState
from ps.protocol.ranges import MOST_STEPS
from ps.server.send import SCHEDULER, Send
from ps.server.shard.chunk import ChunkState
from ps.server.shard.chunk_copy import arrays_of, copied
from ps.server.shard.gradient_shard import GradientShard
from ps.xp import HostArray

_KEEPER = "checkpoint"
LOOK = 0.02
"""Seconds between looks whether a part is written."""


class Writing(Protocol):
    """A part on its way to the disk."""

    @property
    def done(self) -> bool: ...

    @property
    def trouble(self) -> str:
        """What went wrong, once it is done."""
        ...

    def drop(self) -> None:
        """It is not wanted any more: what there is of it is removed."""
        ...


class Room(Protocol):
    """Memory for copies of arrays that are to be made."""

    def copy(self, array: HostArray) -> HostArray:
        """Return a copy. Raises MemoryError."""
        ...

    def close(self) -> None:
        """No more are made."""
        ...


MakeRoom = Callable[[Sequence[HostArray]], Room]
Write = Callable[[str, Layout, Sequence[ChunkSnapshot]], Writing]
"""Begins to write a part into a folder."""


class Cuts:
    """One cut at a time; the order for another one gives the one before up."""

    def __init__(self, shard: GradientShard, member: int, write: Write, make_room: MakeRoom | None = None) -> None:
        """``make_room`` is told of what will be copied as soon as that is known."""
        self._shard = shard
        self._member = member
        self._write = write
        self._make_room = make_room
        self._room: Room | None = None
        self._number = 0
        self._clock = 0
        self._folder = ""
        self._state: PartState = "here"
        self._why = ""
        self._due: dict[int, int] = {}
        """Chunk -> the version that is to be copied."""
        self._arrived: set[int] = set()
        """The chunks that are at that version, or about to be."""
        self._copies: dict[int, ChunkSnapshot] = {}
        self._writing: Writing | None = None
        self._dropped: Writing | None = None
        """What is not wanted any more, and still has its copies while it is written."""
        self._under_way = False
        self.is_last = False
        """Whether the scheduler has said that no other one comes."""
        self.whole = 0
        """The number of the last cut that the scheduler has said to be whole."""

    @property
    def patience(self) -> float:
        """Seconds after which there is something to do, if nothing else is."""
        return 0.0 if self._arrived else LOOK if self._writing is not None and self._state == "marked" else math.inf

    @property
    def is_under_way(self) -> bool:
        """Whether there is an order that is not carried out, or not known to be of no use any more."""
        return self._under_way

    @property
    def is_filled(self) -> bool:
        """Whether there is a model."""
        return self._shard.layout is not None and all(chunk.filled for chunk in self._shard.chunks.values())

    def order(self, order: CheckpointOrder) -> Send:
        """Do what the scheduler wants; return where this server is with it.

        While a part that was given up is still being written there is no memory for another copy: the order to mark
        is said again until that is done.
        """
        self.is_last = order.phase == "last"
        self._under_way = order.phase not in CUT_OVER
        if order.phase == "done":
            self.whole = max(self.whole, order.number)
        if order.number != self._number or not self._under_way:
            self.release(written=order.phase == "drop" and order.number == self._number)
            self._number, self._state, self._why = order.number, "here", ""
        if order.phase == "mark" and self._state == "here" and (self._dropped is None or self._dropped.done):
            self._dropped = None
            self._mark(order)
        return self.status()

    def release(self, *, written: bool = False) -> None:
        """Let go of the marks, and of what was copied and is not written; with ``written`` of what is too."""
        for index in self._due:
            if index in self._shard.chunks:
                self._shard.chunks[index].wish(_KEEPER, -1, self._keep)
        self._due, self._copies, self._arrived = {}, {}, set()
        self._leave_room()
        if self._writing is not None and (written or self._state != "written"):
            self._writing.drop()
            self._dropped = self._writing
        self._writing = None

    def prepare(self) -> None:
        """Have memory for copies taken, unless that was done: they are to be made soon."""
        if self._room is None and self._make_room is not None:
            chunks = self._shard.chunks.values()
            self._room = self._make_room([each for chunk in chunks for each in arrays_of(chunk).values()])

    def _mark(self, order: CheckpointOrder) -> None:
        chunks, lockstep = self._shard.chunks, self._shard.job.lockstep
        self._clock, self._folder = order.clock, order.folder
        if chunks and not self.is_filled:
            self._state, self._why = "failed", "the model has no values yet"
        elif lockstep and any(chunk.version > order.clock for chunk in chunks.values()):
            self._state = "late"
        else:
            self._state = "marked"
            self._due = {i: order.clock if lockstep else chunk.version for i, chunk in chunks.items()}
            self.prepare()
            for index, due in list(self._due.items()):
                if chunks[index].version == due:
                    self._arrived.add(index)
                    chunks[index].wish(_KEEPER, due, self._keep)
                else:
                    chunks[index].wish(_KEEPER, due - 1, self._keep)
            self._go_on()

    def _keep(self, chunk: ChunkState, version: int) -> None:
        """Copy a chunk that is about to go on."""
        index = chunk.chunk.index
        due = self._due.get(index, -1)
        if due == version:  # it is about to come to what is wanted
            self.share_out()
            self._arrived.add(index)
        chunk.wish(_KEEPER, due if due >= version else -1, self._keep)
        if due < 0 or due >= version:
            return
        self._arrived.discard(index)
        if chunk.version != self._due.pop(index):  # clocks were passed over for want of workers
            self.release()
            self._state, self._why = "failed", f"chunk {index} has gone from clock {chunk.version} beyond it"
            return
        try:
            copy = self._room.copy if self._room is not None else np.copy
            self._copies[index] = copied(chunk, self._shard.participants, copy)
        except MemoryError:
            self.release()
            self._state, self._why = "failed", "there is no memory for a copy of the weights"
            return
        self._go_on()

    def share_out(self) -> None:
        """Copy half of the chunks as soon as they are where they are wanted: the others are copied when they go on, a
        step later, and neither of the two steps has all of it to bear.
        """
        while len(self._arrived) > len(self._copies) and self.turn():
            pass

    def turn(self) -> bool:
        """Copy one chunk that is where it is wanted, when there is nothing else to do; return whether one was."""
        for index in self._arrived:
            chunk = self._shard.chunks[index]
            if chunk.version == self._due[index] and chunk.combined is None:
                self._keep(chunk, chunk.version + 1)
                return True
        return False

    def _go_on(self) -> None:
        """Have the part written once all is copied."""
        if self._state == "marked" and not self._due and self._writing is None:
            layout = self._shard.layout or Layout(())  # of a server that has come since, and no chunk has come to
            copies = [self._copies[index] for index in sorted(self._copies)]
            self._copies = {}
            self._leave_room()
            self._writing = self._write(self._folder, layout, copies)

    def _leave_room(self) -> None:
        if self._room is not None:
            self._room.close()
        self._room = None

    def news(self) -> list[Send]:
        """Return what the scheduler is to hear since the writing has ended, if it has."""
        if self._state != "marked" or self._writing is None or not self._writing.done:
            return []
        self._why = self._writing.trouble
        self._state = "failed" if self._why else "written"
        return [self.status()]

    def status(self) -> Send:
        """Return where this server is; without chunks it says an empty range, which is behind and ahead of nobody."""
        lockstep = self._shard.job.lockstep
        clocks = [chunk.version if lockstep else chunk.reached for chunk in self._shard.chunks.values()]
        low, high = min(clocks, default=MOST_STEPS), max(clocks, default=0)
        return Send(SCHEDULER, CheckpointPart(self._member, self._number, self._state, low, high, self._why, {}))
