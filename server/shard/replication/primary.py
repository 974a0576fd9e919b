"""PrimaryShard: a GradientShard whose standby has what was answered before anybody hears the answer. Pure.

After every event the standby is told of each chunk that is other than it was, and the answers wait until it has that:
all are given in the order in which they came about, each once the standby has the records before it. So whatever a
worker was told outlives this server, and what it was not told it asks for again.

A standby that comes is filled beside that, chunk by chunk. It is *protecting* from the moment on in which it was sent
all: it is told so by ReplicaFilled and tells the scheduler, which would give it this server's rank from then on. So
nothing is answered without it any more before a view shows that it is gone: the scheduler has that on disk, and will
not have it go on. At the beginning of a job nothing is answered before there is a standby, if one is to come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

from ps.config.cut import chunk_bytes_of
from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.protocol.membership import peers
from ps.protocol.messages import (
    Attach,
    Init,
    InitChunk,
    InitMaster,
    Inquire,
    Message,
    ReplicaAck,
    ReplicaFilled,
    ReplicaModel,
    ReplicaParticipants,
    ReplicaPing,
    ReplicaRequest,
    Start,
    Suspend,
    View,
)
from ps.protocol.worker_memory import WorkerMemory
from ps.server.send import Origin, Send
from ps.server.shard.chunk import ChunkState
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.replication.history import History
from ps.server.shard.replication.outbox import Outbox
from ps.server.shard.replication.records import put_change, put_nothing, put_whole
from ps.server.shard.replication.tables import Tables
from ps.server.shard.shard import Order
from ps.server.shard.waiting_requests import with_known
from ps.xp import HostArray

_OF_ALL = Init | Attach | Start | Suspend
"""What may change every chunk, and who takes part."""
_VALUES = InitChunk | InitMaster


class PrimaryShard:
    """The ``Shard`` of a server that has a standby, or is to have one."""

    def __init__(self, shard: GradientShard, member: int, *, awaits: bool) -> None:
        """``member``: this server's. ``awaits``: whether a standby is to come before anybody is answered."""
        self._inner = shard
        self._member = member
        self._awaits = awaits
        """Whether nobody may be answered before the standby has all."""
        self._protected = False
        self._standby = 0
        """The member that the latest view shows as the standby of this rank; 0 for none."""
        self._asker: tuple[Origin, ReplicaRequest] | None = None
        """A standby that is there before the model, or the view that shows it."""
        self._requested = 0
        self._outbox: Outbox | None = None
        self._attached = 0
        """Whose that is."""
        self._history: History | None = None
        self._unsent: dict[int, None] = {}
        """The chunks that the standby does not have yet, in order."""
        self._told: dict[int, Tables] = {}
        """What it was told last of those that it has."""
        self._rows: Any = None
        self._held: deque[tuple[int, Send]] = deque()
        """Answers, with the number of the record that the standby has to have before."""

    # What any shard has

    @property
    def job(self) -> JobConfig:
        return self._inner.job

    @property
    def chunks(self) -> dict[int, ChunkState]:
        return self._inner.chunks

    @property
    def deserted(self) -> bool:
        return self._inner.deserted

    def expects(self, member: int) -> bool:
        return member == self._standby or self._inner.expects(member)

    def weights_memory(self, offered: HostArray | None) -> HostArray | None:
        return self._inner.weights_memory(offered)

    def order(self, order: Order) -> list[Send]:
        return self._inner.order(order)

    def report(self, now: float) -> dict[str, Any]:
        found, outbox = self._inner.report(now), self._outbox
        if outbox is None:
            return {**found, "replica": "awaited" if self._awaits else "none"}
        share = len(self._told) / max(1, len(self.chunks))
        state = "protected" if self._protected else "filling"
        return {**found, "replica": state, "replica_lag": outbox.last - outbox.applied, "replica_filled": share}

    def tick(self, now: float) -> list[Send]:
        """Ask a standby that has not everything whether it has lost some."""
        sends, outbox = self._inner.tick(now), self._outbox
        if outbox is not None and outbox.received < outbox.sent:
            sends = [*sends, Send(outbox.to, ReplicaPing(outbox.sent))]
        return sends

    # Events

    def view(self, view: View, now: float) -> list[Send]:
        """Take a new view, see ``Shard``; a standby that it does not show is not waited for any more."""
        shown = peers(view)
        sends = self._inner.view(view, now)
        job, rank = self.job, self._inner.rank
        if view.job and any(peer.member == self._member and peer.rank == rank for peer in shown):
            standbys = [p.member for p in shown if p.role == "server" and p.rank == job.servers + rank]
            self._standby = standbys[0] if standbys else 0
            if self._attached and self._attached != self._standby:
                self._part()
            if view.phase == "running" and not self._standby:
                self._awaits = False
        return self._after(sends, self.chunks, members=True)

    def receive(self, origin: Origin, message: Message, payload: Any, now: float) -> list[Send]:
        match message:
            case ReplicaRequest():
                return self._request(origin, message, payload)
            case ReplicaAck():
                return self._acknowledged(origin, message)
        sends = self._inner.receive(origin, message, payload, now)
        if isinstance(message, Inquire):
            held = {getattr(held.message, "request", 0) for _, held in self._held if held.to == origin}
            return self._after([with_known(send, held) for send in sends], ())  # the answers to these are held
        index = getattr(message, "chunk", None)
        if isinstance(message, _VALUES) and self._history is not None and index in self._told:
            self._told.pop(index)
            put_whole(self._outbox_now, self.chunks[index])
            self._told[index] = Tables.of(self.chunks[index])
        whole = isinstance(message, _OF_ALL)
        return self._after(sends, self.chunks if whole or index is None else (index,), members=whole)

    # The standby comes and goes

    def _request(self, origin: Origin, message: ReplicaRequest, payload: Any) -> list[Send]:
        if message.member == self._attached and message.request == self._requested:  # maybe by another connection
            outbox = self._outbox_now
            outbox.to = origin
            return [Send(origin, ReplicaPing(outbox.sent))]
        if self._inner.layout is None or message.member != self._standby:  # it is early; what it had it has no more
            if message.member == self._attached:
                self._part(holds=self._protected)
            self._asker = origin, message
            return []
        self._part(holds=self._protected)
        shares = isinstance(payload, WorkerMemory) and self._inner.weights_memory(None) is not None
        if shares and not message.weights:  # the line is older than that memory
            return [Send(origin, _AGAIN)]
        self._requested = message.request
        memory = payload.array("weights") if isinstance(payload, WorkerMemory) else None
        outbox = self._outbox = Outbox(origin, message.room, memory)
        self._attached, self._rows = message.member, None
        self._history = History(outbox, self._told.__contains__)
        self._put_model()
        self._unsent = dict.fromkeys(self.chunks)
        return self._after([], (), members=True)

    def _put_model(self) -> None:
        layout, job = self._inner.layout, self.job
        assert layout is not None
        self._model = layout, self._inner.seeder
        about = self._inner.seeder, job.servers, chunk_bytes_of(job, layout.nbytes), layout.pack()
        self._outbox_now.put(lambda number, place: ReplicaModel(number, *about))

    def _part(self, *, holds: bool = False) -> None:
        """Send the standby nothing more; it is filled anew if it asks. ``holds``: nobody is answered before that."""
        self._awaits |= holds
        self._outbox, self._history, self._attached, self._protected = None, None, 0, False
        self._unsent, self._told = {}, {}
        self._held = deque((0, send) for _, send in self._held)
        if self._inner.layout is not None:
            self._inner.ready.updater.recorder = None

    @property
    def _outbox_now(self) -> Outbox:
        assert self._outbox is not None
        return self._outbox

    def _acknowledged(self, origin: Origin, message: ReplicaAck) -> list[Send]:
        outbox = self._outbox
        if outbox is None or message.member != self._attached or origin != outbox.to:
            return []
        if not outbox.heard(message.received, message.applied):
            raise BadMessage(f"{message!r}, of {outbox.sent} records that were sent", "standby")
        return self._after([], ())

    # After an event

    def _after(self, sends: list[Send], touched: Iterable[int], *, members: bool = False) -> list[Send]:
        """Tell the standby what has changed; return what may be said now."""
        again = self._renewed()
        if (outbox := self._outbox) is not None:
            self._record(outbox, touched, members=members)
        for send in sends:
            self._held.append((outbox.last if outbox is not None else 0, send))
        out = [*again, *(self._fill(outbox) if outbox is not None else ())]
        while self._held and self._may_go(self._held[0][0]):
            out.append(self._held.popleft()[1])
        return out

    def _renewed(self) -> list[Send]:
        """Look whether the model is another one by now; then the standby opens a new line, by which it gets memory."""
        layout, asker = self._inner.layout, self._asker
        if layout is None:
            return []
        if asker is not None and asker[1].member == self._standby:
            self._asker = None
            return [Send(asker[0], _AGAIN)]
        if self._outbox is not None and layout is not self._model[0]:
            to = self._outbox.to
            self._part(holds=True)
            return [Send(to, _AGAIN)]
        if self._outbox is not None and self._inner.seeder != self._model[1]:
            self._put_model()
        return []

    def _may_go(self, number: int) -> bool:
        outbox = self._outbox
        if self._awaits and self._inner.layout is not None:
            return False
        return outbox is None or number <= (outbox.received if self._protected else outbox.sent)

    def _record(self, outbox: Outbox, touched: Iterable[int], *, members: bool) -> None:
        history, updater = self._history, self._inner.ready.updater
        if updater.recorder is not history:
            updater.recorder = history
        if members:
            found = self._inner.participants.values()
            rows = tuple((p.member, p.rank, -1 if p.start is None else p.start, p.initial, p.fresh) for p in found)
            if rows != self._rows:
                self._rows = rows
                outbox.put(partial(_participants, rows))
        for index in touched:
            if index not in self._told or history is None:
                continue
            chunk = self.chunks[index]
            tables, changes = Tables.of(chunk), history.take(index)
            for number, change in enumerate(changes, 1):
                put_change(outbox, chunk, tables, change, more=number < len(changes))
            if not changes and tables != self._told[index]:
                put_nothing(outbox, chunk, tables)
            self._told[index] = tables

    def _fill(self, outbox: Outbox) -> list[Send]:
        """Send what there is room for, and chunks that the standby does not have where there is plenty."""
        sends = outbox.send()
        while self._unsent and outbox.idle:
            index = next(iter(self._unsent))
            del self._unsent[index]
            put_whole(outbox, self.chunks[index])
            self._told[index] = Tables.of(self.chunks[index])
            sends += outbox.send()
        if not self._unsent and not self._protected:
            self._protected, self._awaits = True, False
            outbox.put(lambda number, place: ReplicaFilled(number))
            sends += outbox.send()
        return sends


_AGAIN = ReplicaModel(0, 0, 1, 0, ())
"""There is another model by now: open a new line and ask again."""


def _participants(rows: Any, number: int, place: int) -> ReplicaParticipants:
    return ReplicaParticipants(number, rows)
