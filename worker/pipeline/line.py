"""A line from one worker of a pipeline to another: what goes over it comes once and in order, whatever is lost.

Parts are numbered. Whoever receives takes the next one, and drops what comes again or has something missing before it;
it says now and then up to which it has come (Credit). Whoever sends keeps what that does not cover. A connection that
breaks takes with it what was on its way, so where nothing was heard for a while it is asked what has come: parts that
were sent before the question, and are not there when it comes, were lost, and are sent again.

**Flow control.** A channel is a kind of transfer and the stage it is for; at most ``window`` transfers of it are on
their way or not worked with yet. One channel never waits for the room of another, and whoever sends never waits at all:
so no two workers stop each other, whatever the schedule (``ps.pipeline.runner``) and the size of an activation. Of all
channels together at most ``flying`` bytes and a part are on their way; what has come is not, so that this holds up
nothing but a receiver that computes and does not look.

No sockets and no threads; the time comes in.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import cast

import numpy as np

from ps.errors import BadMessage
from ps.pipeline.arrays import ArrayKind
from ps.pipeline.runner import Transfer
from ps.protocol.messages import Credit, CreditRequest, TransferPart
from ps.protocol.messages.words import TransferKind
from ps.worker.pipeline import packed_tree
from ps.xp import HostArray

WINDOW = 4
"""Transfers of one channel that are on their way or have come and not been worked with, at most."""
PART = 32 << 20
"""Bytes of a part, at most."""
FLYING = 64 << 20
"""Bytes that were sent and are not known to have come beyond which nothing more is sent. ZeroMQ keeps what a process
has not looked at, and a connection that brings too much of it is cut (``ps.protocol.backlog``)."""
ASK = 1.0
"""Seconds after which somebody who says nothing is asked what has come."""

Channel = tuple[str, int]
Sent = tuple[TransferPart, HostArray]


class OutgoingLine:
    """This worker's end of a line on which it sends."""

    def __init__(
        self, member: int, arrays: ArrayKind, *, window: int = WINDOW, part: int = PART, flying: int = FLYING
    ) -> None:
        self._most_flying = flying
        self._flying = 0
        """Bytes of parts that were sent and are not known to have come."""
        self._member = member
        self._arrays = arrays
        self._window = window
        self._part = part
        self._waiting: deque[tuple[int, Transfer, dict[str, object], HostArray]] = deque()
        """What has no room yet."""
        self._begun: Counter[Channel] = Counter()
        self._used: dict[Channel, int] = {}
        self._parts: deque[Sent] = deque()
        """What is not known to have come, in order."""
        self._next = 0
        """The place in it of what is to be sent next."""
        self._number = 0
        self._asked = 0
        self._since: float | None = None
        """Since when nothing was heard of what is on its way."""

    @property
    def empty(self) -> bool:
        """Whether everything has come."""
        return not (self._waiting or self._parts)

    def put(self, step: int, transfer: Transfer) -> None:
        """Take something to send; it may be changed afterwards. Raises UsageError for what cannot travel."""
        self._waiting.append((step, transfer, *packed_tree.pack(transfer.tree, self._arrays)))

    def next(self) -> Sent | None:
        """Return what is to be sent now, header and payload; nothing when there is nothing, or no room for it."""
        if self._flying > self._most_flying:
            return None
        if self._next == len(self._parts):
            self._admit()
        return self._parts[self._next] if self._next < len(self._parts) else None

    def sent(self, now: float) -> None:
        """Note that it was sent."""
        self._flying += self._parts[self._next][1].nbytes
        self._next += 1
        self._since = now if self._since is None else self._since

    def _admit(self) -> None:
        """Number what there is room for. What has to wait holds up nothing but what is of its own channel."""
        kept: deque[tuple[int, Transfer, dict[str, object], HostArray]] = deque()
        full: set[Channel] = set()
        for entry in self._waiting:
            step, transfer, what, memory = entry
            channel = transfer.kind, transfer.stage
            if channel in full or self._begun[channel] - self._used.get(channel, 0) >= self._window:
                full.add(channel)
                kept.append(entry)
                continue
            self._begun[channel] += 1
            for start in range(0, max(1, memory.size), self._part):
                self._number += 1
                kind = cast("TransferKind", transfer.kind)
                about = self._member, self._number, step, kind, transfer.stage, transfer.microbatch
                message = TransferPart(*about, start, memory.size, {} if start else what)
                self._parts.append((message, memory[start : start + self._part]))
        self._waiting = kept

    def credit(self, message: Credit, now: float) -> None:
        """Take what the other end says. Raises BadMessage when it cannot be."""
        if message.number > self._number:
            raise BadMessage(f"{message!r}, where {self._number} parts were sent")
        while self._parts and self._parts[0][0].number <= message.number:
            _, payload = self._parts.popleft()
            if self._next:
                self._next -= 1
                self._flying -= payload.nbytes
            self._since = now
        for kind, stage, count in message.used:
            self._used[kind, stage] = max(count, self._used.get((kind, stage), 0))
        if message.asked and message.asked == self._asked:
            self._asked, self._since = 0, now
            if message.number < message.asked:
                self.begin_again()
        if not self._parts:
            self._since = None

    def begin_again(self) -> None:
        """Send all again that is not known to have come: it was lost, or the connection is a new one."""
        self._next = self._flying = 0

    def ask(self, now: float) -> CreditRequest | None:
        """Return a question for the other end, when it is time for one."""
        if self._since is None or now - self._since < ASK or not self._next:
            return None
        self._since = now
        self._asked = self._parts[self._next - 1][0].number
        return CreditRequest(self._member, self._asked)


class IncomingLine:
    """This worker's end of a line on which it receives."""

    def __init__(self, arrays: ArrayKind) -> None:
        self._arrays = arrays
        self.number = 0
        """The last part that has come."""
        self.received: Counter[Channel] = Counter()
        self._first: TransferPart | None = None
        self._memory: HostArray = np.empty(0, np.uint8)
        self._filled = 0
        self._told: Credit | None = None

    def receive(self, part: TransferPart, payload: object) -> tuple[int, Transfer] | None:
        """Take a part; return the step and the transfer that are whole with it. Raises BadMessage."""
        if part.number != self.number + 1:  # it has come before, or something before it was lost
            self._told = None
            return None
        size = memoryview(payload).nbytes  # type: ignore[arg-type]
        first = self._first or part
        if part.start != self._filled or (part.start == 0) != (self._first is None) or part.start + size > part.nbytes:
            raise BadMessage(f"{part!r} with {size} bytes, after {self._filled}")
        if first.nbytes != part.nbytes or first.number + (part.start > 0) > part.number:
            raise BadMessage(f"{part!r} is no part of {first!r}")
        if self._first is None:
            if packed_tree.size_of(part.tree) != part.nbytes:
                raise BadMessage(f"{part!r}: its arrays have another size")
            self._memory = np.empty(part.nbytes, np.uint8)
        elif not size:
            raise BadMessage(f"{part!r} without bytes")
        self._memory[part.start : part.start + size] = np.frombuffer(payload, np.uint8)  # type: ignore[call-overload]
        self.number, self._filled, self._first = part.number, self._filled + size, first
        if self._filled < part.nbytes:
            return None
        tree = packed_tree.unpack(first.tree, self._memory, self._arrays)
        self._first, self._memory, self._filled = None, np.empty(0, np.uint8), 0
        self.received[first.kind, first.stage] += 1
        return first.step, Transfer(first.kind, first.stage, first.microbatch, tree)

    def credit(self, member: int, unused: Callable[[str, int], int], asked: int = 0) -> Credit | None:
        """Return what the other end is to know, if it does not; ``unused``: of a channel, how many have come and were
        not worked with."""
        used = tuple(
            (cast("TransferKind", kind), stage, count - unused(kind, stage))
            for (kind, stage), count in self.received.items()
        )
        found = Credit(member, self.number, 0, used)
        if found == self._told and not asked:
            return None
        self._told = found
        return Credit(member, self.number, asked, used)
