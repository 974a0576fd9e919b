"""A line from one worker of a pipeline to another: what goes over it comes once and in order, whatever is lost.

Parts are numbered. Whoever receives takes the next one, and drops what comes again or has something missing before it;
it says now and then up to which it has come (Credit), before the sender has no room left, not for each. Whoever sends
keeps what that does not cover. A connection that breaks takes with it what was on its way, so where nothing was heard
for a while it is asked what has come: parts that were sent before the question, and are not there when it comes, were
lost, and are sent again.

**Flow control.** A channel is a kind of transfer and the stage it is for; at most ``window`` transfers of it are on
their way or not worked with yet. One channel never waits for the room of another, and whoever sends never waits at all:
so no two workers stop each other, whatever the schedule (``ps.pipeline.runner``) and the size of an activation. Of all
channels together at most ``flying`` bytes and a part are on their way; what has come is not, so that this holds up
nothing but a receiver that computes and does not look.

**Shared memory.** Where there is a buffer for the bytes of a transfer they lie in it, and one message says so
(``shared_buffers``); if that is lost it is said again. It may come on another way than parts do, and before those that
were sent before it: then it waits for them.

No sockets and no threads; the time comes in.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.pipeline.runner import Transfer
from ps.protocol.messages import Credit, CreditRequest, SharedTransfer, TransferPart
from ps.protocol.messages.words import TransferKind
from ps.worker.pipeline.packed_tree import TreePacker, new
from ps.worker.pipeline.shared_buffers import LentBuffer, OfferedBuffers
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
MOST_EARLY = 1000
"""Parts that are kept before their turn; beyond that they are sent again."""

Channel = tuple[str, int]
Sent = tuple[TransferPart | SharedTransfer, HostArray | None]
"""A header, and the bytes that go with it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Something that has no room yet, packed."""

    step: int
    transfer: Transfer
    what: dict[str, object]
    memory: HostArray
    lent: LentBuffer | None
    """The buffer that the memory is of, if that is shared."""


class OutgoingLine:
    """This worker's end of a line on which it sends."""

    def __init__(
        self, member: int, trees: TreePacker, *, window: int = WINDOW, part: int = PART, flying: int = FLYING
    ) -> None:
        self._most_flying = flying
        self._flying = 0
        """Bytes of parts that were sent and are not known to have come."""
        self._member = member
        self._trees = trees
        self._window = window
        self._part = part
        self._buffers: OfferedBuffers | None = None
        self._waiting: deque[_Waiting] = deque()
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

    def share(self, buffers: OfferedBuffers) -> None:
        """Lay what is sent from now on into these, as far as they have room."""
        self._buffers = buffers

    def put(self, step: int, transfer: Transfer, clock: int | None = None) -> None:
        """Take something to send; it may be changed afterwards. Raises UsageError for what cannot travel.

        With a ``clock`` it is of the step after that, and compressed where the job says so.
        """
        lent: LentBuffer | None = None

        def room(nbytes: int) -> HostArray:
            nonlocal lent
            lent = self._buffers.take(nbytes) if self._buffers and nbytes else None
            return lent.memory if lent else new(nbytes)

        compression = self._trees.compression
        encoder = compression.of(transfer, clock) if compression else None
        what, memory = self._trees.pack(transfer.tree, room, encoder)
        self._waiting.append(_Waiting(step, transfer, what, memory, lent))

    def forget(self, step: int) -> None:
        """Drop what is of steps before this one, and has no number yet; what lies in shared memory frees that."""
        if self._waiting:
            self._waiting = deque(entry for entry in self._waiting if entry.step >= step or entry.lent is not None)

    def next(self) -> Sent | None:
        """Return what is to be sent now, header and payload; nothing when there is nothing, or no room for it."""
        if self._flying > self._most_flying:
            return None
        if self._next == len(self._parts):
            self._admit()
        return self._parts[self._next] if self._next < len(self._parts) else None

    def sent(self, now: float) -> None:
        """Note that it was sent."""
        self._flying += _size(self._parts[self._next])
        self._next += 1
        self._since = now if self._since is None else self._since

    def _admit(self) -> None:
        """Number what there is room for. What has to wait holds up nothing but what is of its own channel."""
        kept: deque[_Waiting] = deque()
        full: set[Channel] = set()
        for entry in self._waiting:
            transfer, memory = entry.transfer, entry.memory
            channel = transfer.kind, transfer.stage
            if channel in full or self._begun[channel] - self._used.get(channel, 0) >= self._window:
                full.add(channel)
                kept.append(entry)
                continue
            self._begun[channel] += 1
            kind = cast("TransferKind", transfer.kind)
            about = entry.step, kind, transfer.stage, transfer.microbatch
            if entry.lent is not None or not memory.size:
                self._number += 1
                place = (entry.lent.number, entry.lent.use) if entry.lent else (0, 0)
                where = memory.size, entry.what, *place
                self._parts.append((SharedTransfer(self._member, self._number, *about, *where), None))
                continue
            for start in range(0, memory.size, self._part):
                self._number += 1
                what = {} if start else entry.what
                message = TransferPart(self._member, self._number, *about, start, memory.size, what)
                self._parts.append((message, memory[start : start + self._part]))
        self._waiting = kept

    def credit(self, message: Credit, now: float) -> None:
        """Take what the other end says. Raises BadMessage when it cannot be."""
        if message.number > self._number:
            raise BadMessage(f"{message!r}, where {self._number} parts were sent")
        while self._parts and self._parts[0][0].number <= message.number:
            part = self._parts.popleft()
            if self._next:
                self._next -= 1
                self._flying -= _size(part)
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

    def ask(self, now: float, *, soon: float = ASK) -> CreditRequest | None:
        """Return a question for the other end, when it is time for one: nothing was heard for so many seconds."""
        if not (self._next or self._waiting):
            return None
        self._since = now if self._since is None else self._since
        if now - self._since < soon:
            return None
        self._since = now
        self._asked = self._parts[self._next - 1][0].number if self._next else self._number
        return CreditRequest(self._member, self._asked)


def _size(part: Sent) -> int:
    return 0 if part[1] is None else part[1].nbytes


class IncomingLine:
    """This worker's end of a line on which it receives."""

    def __init__(
        self,
        trees: TreePacker,
        shared: Callable[[int, int, int], HostArray] | None = None,
        *,
        window: int = WINDOW,
        flying: int = FLYING,
    ) -> None:
        """``shared`` returns so many bytes that were laid into a buffer, as ``AdoptedBuffers.receive`` does. ``window``
        and ``flying`` are the sender's."""
        self._trees = trees
        self._shared = shared
        self._owed_uses, self._owed_bytes = max(1, window // 2), flying // 4
        """After how many that were worked with, and how many bytes, the sender is told."""
        self.number = 0
        """The last part that has come."""
        self.received: Counter[Channel] = Counter()
        self._early: dict[int, tuple[TransferPart | SharedTransfer, object]] = {}
        """What has come before something that was sent before it."""
        self._first: TransferPart | None = None
        self._memory: HostArray = np.empty(0, np.uint8)
        self._filled = 0
        self._told: Counter[Channel] = Counter()
        """Of each channel, how many the sender knows to be worked with."""
        self._owed = 0
        """Bytes of which the sender does not know that they have come."""
        self._again = False
        """Whether something came again: the sender does not know that it had come."""

    def receive(self, part: TransferPart | SharedTransfer, payload: object) -> Iterator[tuple[int, Transfer]]:
        """Take a part; yield the steps and the transfers that are whole with it. Raises BadMessage."""
        if part.number <= self.number:
            self._again = True
        elif part.number > self.number + 1:  # or something before it was lost: then all is sent again
            if len(self._early) < MOST_EARLY:
                self._early[part.number] = part, payload
            return
        else:
            if (whole := self._next(part, payload)) is not None:
                yield whole
            while (early := self._early.pop(self.number + 1, None)) is not None:
                if (whole := self._next(*early)) is not None:
                    yield whole

    def _next(self, part: TransferPart | SharedTransfer, payload: object) -> tuple[int, Transfer] | None:
        self._early.pop(part.number, None)
        return self._whole(part) if isinstance(part, SharedTransfer) else self._piece(part, payload)

    def _whole(self, shared: SharedTransfer) -> tuple[int, Transfer]:
        if self._first is not None or (self._shared is None and shared.nbytes):
            raise BadMessage(f"{shared!r} in the midst of another, or where no memory is shared")
        if self._trees.size_of(shared.tree) != shared.nbytes:
            raise BadMessage(f"{shared!r}: its arrays have another size")
        memory = new(0)
        if self._shared is not None and shared.nbytes:
            memory = self._shared(shared.buffer, shared.use, shared.nbytes)
        self.number = shared.number
        return self._take(shared, memory)

    def _piece(self, part: TransferPart, payload: object) -> tuple[int, Transfer] | None:
        size = memoryview(payload).nbytes  # type: ignore[arg-type]
        first = self._first or part
        if part.start != self._filled or (part.start == 0) != (self._first is None) or part.start + size > part.nbytes:
            raise BadMessage(f"{part!r} with {size} bytes, after {self._filled}")
        if first.nbytes != part.nbytes or first.number + (part.start > 0) > part.number:
            raise BadMessage(f"{part!r} is no part of {first!r}")
        if self._first is None:
            if self._trees.size_of(part.tree) != part.nbytes:
                raise BadMessage(f"{part!r}: its arrays have another size")
            self._memory = np.empty(part.nbytes, np.uint8)
        elif not size:
            raise BadMessage(f"{part!r} without bytes")
        self._memory[part.start : part.start + size] = np.frombuffer(payload, np.uint8)  # type: ignore[call-overload]
        self.number, self._filled, self._first = part.number, self._filled + size, first
        self._owed += size
        if self._filled < part.nbytes:
            return None
        memory, self._first, self._memory, self._filled = self._memory, None, np.empty(0, np.uint8), 0
        return self._take(first, memory)

    def _take(self, about: TransferPart | SharedTransfer, memory: HostArray) -> tuple[int, Transfer]:
        tree = self._trees.unpack(about.tree, memory)
        self.received[about.kind, about.stage] += 1
        return about.step, Transfer(about.kind, about.stage, about.microbatch, tree)

    def credit(
        self, member: int, unused: Callable[[str, int], int], asked: int = 0, *, last: bool = False
    ) -> Credit | None:
        """Return what the other end is to know, if it is time to say so, or for the ``last`` time; ``unused``: of a
        channel, how many have come and were not worked with."""
        told, most = self._told, self._owed_uses
        must = asked or last or self._again or self._owed >= self._owed_bytes
        if not (must or any(count - told[channel] >= most for channel, count in self.received.items())):
            return None  # whatever was worked with
        used = Counter({channel: count - unused(*channel) for channel, count in self.received.items()})
        if not (must or any(count - told[channel] >= most for channel, count in used.items())):
            return None
        self._told, self._owed, self._again = used, 0, False
        lines = tuple((cast("TransferKind", kind), stage, count) for (kind, stage), count in used.items())
        return Credit(member, self.number, asked, lines)
