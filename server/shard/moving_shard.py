"""MovingShard: a shard some of whose chunks come from other servers, or go to them, while training goes on.

It stands around the shard from the moment on in which the first chunk is to move: a job in which none ever does has
nothing of it. A request for a chunk that is on its way waits until it is settled who has it; whoever asks for one that
is elsewhere is told where (Moved) and sends it there, where nothing counts twice, since a chunk takes along what is
counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.protocol.membership import peers
from ps.protocol.messages import (
    Attach,
    ChunkAnswer,
    ChunkBegin,
    ChunkGrant,
    ChunkLayout,
    ChunkPart,
    Error,
    Inquire,
    Message,
    Moved,
    MoveOrder,
    Ok,
    RoundOrder,
    Start,
    Suspend,
    Unseal,
    View,
)
from ps.protocol.placement import Where, holder
from ps.server.send import Origin, Send
from ps.server.shard.arrivals import Arrivals, adopt, settle
from ps.server.shard.chunk import ChunkState
from ps.server.shard.chunk_transfer import spoken
from ps.server.shard.departures import Departure, Departures
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.held_requests import HeldRequests
from ps.server.shard.waiting_requests import with_known
from ps.xp import HostArray

OfServers: TypeAlias = ChunkBegin | ChunkPart | ChunkLayout | ChunkGrant | ChunkAnswer
"""What servers say to each other."""


class MovingShard:
    """Like the shard that it is around."""

    def __init__(self, shard: GradientShard, member: int, view: View, placed: Where) -> None:
        """``member``: this server's id; ``view``: the latest, which the shard knows; ``placed``: see ``place``."""
        self._shard = shard
        self._departures = Departures(shard, member)
        self._arrivals = Arrivals(shard, member)
        self._held = HeldRequests()
        self._placed: Where = {}
        self._servers: set[int] = set()
        self.place(placed)
        self._learn(view)

    # As any shard

    @property
    def job(self) -> JobConfig:
        return self._shard.job

    @property
    def chunks(self) -> dict[int, ChunkState]:
        return self._shard.chunks

    @property
    def deserted(self) -> bool:
        return self._shard.deserted

    def expects(self, member: int) -> bool:
        return self._shard.expects(member)

    def weights_memory(self, offered: HostArray | None) -> HostArray | None:
        return self._shard.weights_memory(offered)

    def order(self, order: RoundOrder | Unseal) -> list[Send]:
        return self._shard.order(order)

    def report(self, now: float) -> dict[str, Any]:
        return self._shard.report(now)

    def view(self, view: View, now: float) -> list[Send]:
        return [*self._shard.view(view, now), *self._learn(view), *self._settle(now)]

    def _learn(self, view: View) -> list[Send]:
        members = peers(view)
        self._servers = {peer.member for peer in members if peer.role == "server"}
        self._departures.view(view.epoch, self._servers, self._placed)
        self._held.forget({peer.member for peer in members})
        return self._arrivals.view(view.epoch, self._servers)

    def tick(self, now: float) -> list[Send]:
        self._arrivals.tick()
        return [*self._shard.tick(now), *self._settle(now), *self._departures.tick(now)]

    def receive(self, origin: Origin, message: Message, payload: Any, now: float) -> list[Send]:
        if isinstance(message, OfServers):
            return self._hear(message, payload, now)
        if isinstance(message, Inquire):
            known = self._held.known(origin, message)
            return [with_known(answer, known) for answer in self._shard.receive(origin, message, None, now)]
        if not self._shard.expects(getattr(message, "member", 0)) and not isinstance(message, Attach):
            return []  # the view that shows it may be under way: it asks again, or hears that it was declared dead
        if isinstance(message, Start | Suspend) and message.request < self._shard.participants[message.member].word:
            return [Send(origin, Ok(message.request))]  # it has said something later since
        index = getattr(message, "chunk", None)
        if index is None or index in self._shard.chunks:
            sends = self._shard.receive(origin, message, payload, now)
        else:
            sends = self._about_another(index, origin, message, payload, now)
        return sends + self._departures.turn(now)

    # Moves

    def place(self, placed: Where) -> None:
        """Learn from the scheduler which chunks are not where the layout has them: chunk -> rank."""
        self._placed = placed

    def move(self, order: MoveOrder, now: float) -> list[Send]:
        """Do what the scheduler wants."""
        self._departures.order(order)
        return [*self._settle(now), self._departures.report()]

    @property
    def is_empty(self) -> bool:
        """Whether there is no chunk here and none on its way, as the scheduler knows."""
        return not self._shard.chunks and self._departures.is_over and not self._arrivals.has_taken

    def _about_another(self, index: int, origin: Origin, message: Any, payload: Any, now: float) -> list[Send]:
        """Take a request for a chunk that is not here."""
        if self._is_on_its_way(index):
            self._held.keep(index, origin, message, payload)
            return []
        rank = self._rank_of(index)
        if rank != self._shard.rank:
            return [Send(origin, Moved(message.request, rank))]
        return self._shard.receive(origin, message, payload, now)

    def _rank_of(self, index: int) -> int:
        """Return the rank of the server that has a chunk, as far as is known here."""
        rank = self._departures.where(index)
        return holder(index, self._shard.job.servers, self._placed) if rank is None else rank

    def where(self, index: int) -> int | None:
        """Return the rank of the server that has a chunk: this one's if it comes or may stay; None for no chunk."""
        if index in self._shard.chunks or self._is_on_its_way(index):
            return self._shard.rank
        rank = self._rank_of(index)
        return None if rank == self._shard.rank else rank

    def _is_on_its_way(self, index: int) -> bool:
        """Whether it is not settled yet who has a chunk that is not here."""
        leaving = self._departures.under_way
        if (leaving is not None and leaving.index == index and not leaving.granted) or self._arrivals.expects(index):
            return True
        return index in self._placed and self._rank_of(index) == self._shard.rank  # all but this one have heard of it

    def _release(self, now: float) -> list[Send]:
        """Take what was asked for chunks of which it is settled by now who has them."""
        settled = [index for index in self._held.chunks if not self._is_on_its_way(index)]
        return [send for index in settled for send in self._replayed(index, now)]

    def _replayed(self, index: int, now: float) -> list[Send]:
        sends: list[Send] = []
        for origin, message, payload in self._held.take(index):
            try:
                sends += self.receive(origin, message, payload, now)
            except BadMessage as error:
                sends.append(Send(origin, Error(getattr(message, "request", 0), "bad-message", str(error))))
        return sends

    def _hear(self, message: OfServers, payload: Any, now: float) -> list[Send]:
        if message.member not in self._servers:
            if not self._shard.expects(message.member):  # a server that has gone, or of which no view tells yet
                return []
            raise BadMessage(f"a {type(message).__name__} is for servers to say")
        match message:
            case ChunkBegin():
                return [*self._arrivals.begin(message), *self._release(now)]
            case ChunkPart():
                return [*self._arrivals.part(message, payload), *self._release(now)]
            case ChunkLayout():
                return self._arrivals.hear_layout(message)
            case ChunkGrant():
                return self._granted(message, now)
            case ChunkAnswer():
                sends, gone = self._departures.hear(message, now)
                return [*sends, *(self._leave(gone) if gone else []), *self._settle(now)]

    def _leave(self, gone: Departure) -> list[Send]:
        """Tell those who wait for a chunk that has become another server's where it is."""
        waiters, gone.chunk.waiters = gone.chunk.waiters, []
        sends = [Send(waiter.origin, Moved(waiter.request, gone.rank)) for waiter in waiters]
        held = self._held.take(gone.index)
        return sends + [Send(origin, Moved(message.request, gone.rank)) for origin, message, _ in held]  # type: ignore[attr-defined]

    def _granted(self, message: ChunkGrant, now: float) -> list[Send]:
        sends, incomer = self._arrivals.grant(message)
        if incomer is None or incomer.state is None:
            return sends
        self._departures.arrived(incomer.chunk.index)
        known = spoken(incomer.arrays)
        adopt(known, self._shard)
        heard, ranks = {each.member: each.heard for each in known}, {each.member: each.rank for each in known}
        return [*sends, *self._put(incomer.state, heard, ranks, now)]

    def _settle(self, now: float) -> list[Send]:
        """Have a chunk back that need not go, or cannot; send the next one off."""
        sends: list[Send] = []
        if self._departures.may_return(self._servers):
            leaving = self._departures.take_back()
            dropped = Send(leaving.target, ChunkGrant(self._departures.member, 0, leaving.index))
            ranks = {member: p.rank for member, p in self._shard.participants.items()}
            sends = [dropped, *self._put(leaving.chunk, leaving.words, ranks | leaving.ranks, now)]
        return [*sends, *self._release(now), *self._departures.turn(now)]

    def _put(self, chunk: ChunkState, heard: Mapping[int, int], ranks: Mapping[int, int], now: float) -> list[Send]:
        """Have a chunk here from now on, and do what was asked of it meanwhile."""
        index = chunk.chunk.index
        self._shard.chunks[index] = chunk
        settle(chunk, heard, ranks, self._shard)
        sends = list(self._shard.ready.advance(chunk))
        return sends + self._replayed(index, now)
