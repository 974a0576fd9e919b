"""Uploads: the deltas on their way to one server, and the room there is for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps.compress import Key
from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.protocol.layout import Chunk
from ps.protocol.messages import Busy, Late, Message, Stored, Upload
from ps.protocol.messages.federated import COMPARED
from ps.protocol.messages.words import Defect
from ps.protocol.ranges import MOST_HELD, MOST_NOTES
from ps.secure.frames import MaskedFrames
from ps.server.shard.chunk import read_raw
from ps.server.shard.staged import MASKED, Part, Staged

PATIENCE = 0.5
"""Seconds after which a client that found no room asks again."""
IDLE = 30.0
"""Seconds without a chunk after which an upload that is not complete makes room for another, if that needs it."""

Note = tuple[int, float, Defect]


class Uploads:
    """Staged contributions by task, and the tasks that are settled.

    Memory: the job's ``upload_room``, or as many contributions as tell what is typical, if those are more.
    """

    def __init__(self, job: JobConfig, chunks: Mapping[int, Chunk], frames: MaskedFrames | None = None) -> None:
        """``chunks``: those of this server, by index. ``frames``: how they come, if they do so under masks."""
        self._frames = frames
        self.floor = 0
        """The task below which all are over."""
        self._job = job
        self._codec = job.specs.compress.build()
        self._exact = job.specs.privacy is not None
        self._chunks = chunks
        self._share = sum(chunk.nbytes for chunk in chunks.values())
        self._staged: dict[int, Staged] = {}
        self._settled: set[int] = set()

    def __len__(self) -> int:
        return len(self._staged)

    @property
    def nbytes(self) -> int:
        """Bytes of what is staged."""
        return sum(staged.nbytes for staged in self._staged.values())

    def held(self, task: int) -> tuple[int, ...]:
        """Return the chunks of a contribution that are here, or as many as can be told."""
        return tuple(sorted(self._staged[task].squares)[:MOST_HELD]) if task in self._staged else ()

    def notes(self) -> tuple[Note, ...]:
        """Return what the scheduler is to know of the contributions that are complete."""
        if not self._staged:
            return ()
        complete = [(task, staged) for task, staged in self._staged.items() if self._complete(staged)]
        return tuple([(task, staged.norm_squared, staged.wrong) for task, staged in complete[:MOST_NOTES]])

    def _complete(self, staged: Staged) -> bool:
        return len(staged.squares) == len(self._chunks)

    def take(self, message: Upload, payload: Any, version: int, now: float) -> tuple[Message, bool]:
        """Take one chunk; return the answer, and whether a contribution became complete with it.

        ``version`` is what those who come late are told.
        """
        task, chunk = message.task, self._chunks[message.chunk]
        if task < self.floor or task in self._settled:
            return Late(message.request, message.chunk, version), False
        staged, nbytes = self._staged.get(task), memoryview(payload).nbytes
        if staged is not None and staged.rank != message.rank:  # of a scheduler that forgot whom it had given it to
            return Late(message.request, message.chunk, version), False
        if staged is not None and message.chunk in staged.squares:  # a retry: the first one counts
            return Stored(message.request, task, message.chunk), False
        if staged is None:
            expected = math.ceil(nbytes * self._share / chunk.nbytes)
            if not self._room_for(expected, now):
                return Busy(message.request, message.chunk, PATIENCE), False
            staged = self._staged[task] = Staged(now, expected, rank=message.rank, exact=self._exact)
        staged.since = now
        try:
            part = self._read(chunk, message, payload)
        except BadMessage:
            staged.refuse(message.chunk, "malformed")
        else:
            staged.take(message.chunk, part, chunk.kind if self._frames is None else MASKED, nbytes)
        complete = self._complete(staged)
        if complete:
            staged.expected = staged.nbytes
        return Stored(message.request, task, message.chunk), complete

    def _room_for(self, nbytes: int, now: float) -> bool:
        """Whether one more contribution may come, be it that one which has come to a halt is dropped for it."""
        room = self._job.upload_room - nbytes
        if len(self._staged) < COMPARED or self._reserved <= room:
            return True
        for task, staged in list(self._staged.items()):
            if not self._complete(staged) and now - staged.since >= IDLE:
                del self._staged[task]
        return len(self._staged) < COMPARED or self._reserved <= room

    @property
    def _reserved(self) -> int:
        return sum(max(staged.nbytes, staged.expected) for staged in self._staged.values())

    def _read(self, chunk: Chunk, message: Upload, payload: Any) -> Part:
        if self._frames is not None:
            wanted, dtype = self._frames.words(chunk), self._frames.encoding.dtype
            if memoryview(payload).nbytes != wanted * dtype.itemsize:
                raise BadMessage(f"chunk {chunk.index} has {wanted} words of {dtype.itemsize} bytes under masks")
            return np.frombuffer(payload, dtype)
        if self._job.compress == "none" or not chunk.compressible:
            return read_raw(chunk, payload)
        key = Key(self._job.seed, message.round, message.chunk, message.rank)
        frame = np.frombuffer(payload, np.uint8)
        return self._codec.open(frame, chunk.size, np.dtype(chunk.dtype), key)

    def settle(self, task: int) -> Mapping[int, Part] | None:
        """Take a contribution out; nothing more comes of its task. None unless all of it is here and sound."""
        staged = self._staged.pop(task, None)
        self._settled.add(task)
        return staged.parts if staged is not None and self._complete(staged) and not staged.wrong else None

    def forget_below(self, floor: int) -> None:
        """Drop all tasks that are over."""
        if floor > self.floor:
            self.floor = floor
            self._staged = {task: staged for task, staged in self._staged.items() if task >= floor}
            self._settled = {task for task in self._settled if task >= floor}
