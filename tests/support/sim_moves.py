"""MovingSim: a simulated job whose servers come and go, so that its chunks move while workers train.

Servers speak to each other over channels of their own, whose messages may be lost like those of workers. One that has
no chunk, as far as the scheduler knows, may die at any moment: also when it is about to take its first one over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ps.errors import BadMessage
from ps.protocol.messages import Init, Leave, MoveOrder, Placed, View
from ps.protocol.placement import unpacked
from ps.server.send import Send
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.moving_shard import MovingShard, OfServers
from support.sim import Sim
from support.simmail import Letter
from support.simworker import Plan


class MovingSim(Sim):
    """One job. Servers that are not asked to drain stay to its end."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.moving: dict[int, MovingShard] = {}
        self.views: dict[int, View] = {}
        self.drained: set[int] = set()
        self.bare: list[GradientShard] = []
        """Servers that no worker has given the memory yet in which weights are read."""
        self.between: list[Plan] = []
        """Workers that come while a chunk is between two servers."""
        super().__init__(*args, **more)

    # Servers come and go

    def _change_servers(self, kind: str) -> bool:
        state = self.scheduler
        if state.phase != "running" or not state.seeding.done:
            return False
        live = [record for record in state.live("server") if record.member not in self.dead]
        if kind == "comers":
            self._come()
            return True
        if kind == "drains":
            ranks = [record.rank for record in live if record.rank not in state.moves.draining]
            return bool(ranks) and not state.moves.drain(self.random.choice(ranks), state.roster)
        empty = [
            record.member for record in live if record.rank >= len(self.first) and not state.moves.holds(record.rank)
        ]
        if not empty:
            return False
        self.dead.add(self.random.choice(empty))
        return True

    @property
    def first(self) -> range:
        """The ranks of the servers that the job began with."""
        return range(self.explicit.get("servers", 1))

    def _come(self) -> None:
        before = set(self.scheduler.members)
        self._hello("server", 900 + len(self.shards))
        (member,) = set(self.scheduler.members) - before
        self.ranks[member] = rank = self.scheduler.members[member].rank
        self.shards[member] = GradientShard(rank)
        self.bare.append(self.shards[member])

    # Their side

    def _serve(self, server: int, source: int, letter: Letter) -> None:
        message, shard = letter.message, self.shards[server]
        moving = self.moving.get(server)
        try:
            if isinstance(message, View):
                if message.epoch > self.epochs.get(server, -1):
                    self.epochs[server], self.views[server] = message.epoch, message
                    self._perform(server, (moving or shard).view(message, self.now))
                    if server in self.placed and shard.layout is None:  # it has just come
                        self._mover(server)
            elif isinstance(message, Placed):
                self.placed[server] = unpacked(message.elsewhere)
                if moving is not None:
                    moving.place(self.placed[server])
            elif isinstance(message, MoveOrder):
                self._order(server, message)
            elif source == 0:
                return
            elif isinstance(message, OfServers):
                if server in self.views:
                    payload = None if letter.payload is None else letter.payload.tobytes()
                    self._perform(server, self._mover(server).receive(b"", message, payload, self.now))
            elif moving is not None and not isinstance(message, Init):
                payload = None if letter.payload is None else letter.payload.tobytes()
                self._perform(server, moving.receive(str(source).encode(), message, payload, self.now))
            else:
                super()._serve(server, source, letter)
        except BadMessage as error:
            raise AssertionError(f"server {server} refused {message!r}: {error}") from error
        self._spy(shard)

    def _mover(self, server: int) -> MovingShard:
        if server not in self.moving:
            placed = self.placed.get(server, {})
            self.moving[server] = MovingShard(self.shards[server], server, self.views[server], placed)
        return self.moving[server]

    def _order(self, server: int, order: MoveOrder) -> None:
        if server not in self.views:
            return
        moving = self._mover(server)
        self._perform(server, moving.move(order, self.now))
        if order.leave and moving.is_empty:
            self.drained.add(server)
            self._schedule(server, Leave(0, server, {}))
            self.dead.add(server)

    def _perform(self, server: int, replies: list[Send]) -> None:
        for reply in replies:
            if isinstance(reply.to, int):
                payload = None if reply.payload is None else reply.payload.copy()
                self._send(server, reply.to, Letter(reply.message, payload))
            else:
                super()._perform(server, [reply])

    def _deliver(self, key: tuple[int, int]) -> None:
        super()._deliver(key)
        if self.bare and self.random.random() < 0.1:
            self.bare.pop().weights_memory(self.home)
        if self.between and any(m._departures.under_way for m in self.moving.values()) and self.random.random() < 0.2:
            self.join(self.between.pop())
        if self.random.random() < 0.05:  # the scheduler looks up, also while all are busy
            self._tell(self.scheduler.tick(self.now), 0)

    def _look_after(self) -> None:
        super()._look_after()
        for server, moving in self.moving.items():
            if server not in self.dead:
                self._perform(server, moving.tick(self.now))

    def _over(self) -> bool:
        return super()._over() or self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether a server has died with a chunk that it had taken over just before, or had said that it has."""
        killed = [server for server in self.shards if server in self.dead and server not in self.drained]
        return self.scheduler.phase == "failed" and any(
            self.shards[server].chunks or (server in self.moving and self.moving[server]._arrivals.has_taken)
            for server in killed
        )

    @property
    def moved(self) -> int:
        """How many chunks have changed their server, and are not back."""
        return sum(len(moving._departures._handed) for moving in self.moving.values())

    def chunks_of(self, server: int) -> Sequence[int]:
        """The chunks of a server, by its id."""
        return sorted(self.shards[server].chunks)
