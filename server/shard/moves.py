"""ServerMoves: what a server process does for chunks that move: its lines to others, and which of those it believes."""

from __future__ import annotations

import time

import zmq

from ps.keys.public_keys import PublicKeys
from ps.protocol.messages import Error, Introduce, MoveOrder, Placed, View
from ps.protocol.placement import holder, unpacked
from ps.protocol.sockets import Socket
from ps.server.bindings import stranger
from ps.server.send import Origin, Send
from ps.server.shard.callers import Callers
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.moving_shard import MovingShard
from ps.server.shard.server_lines import ServerLines
from ps.server.shard.shard import Shard


class ServerMoves:
    """Nothing but an empty table until the first chunk is to move."""

    def __init__(self, context: zmq.Context[Socket], poller: zmq.Poller) -> None:
        self.lines = ServerLines(context, poller)
        self._member = 0
        self._view: View | None = None
        self._placed: dict[int, int] = {}
        self._was_told = False
        """Whether the scheduler has said where chunks are: some have moved, though all may be at home again."""
        self._leave = False
        self._moves: MovingShard | None = None
        """The shard, once its chunks move."""

    def view(self, view: View, member: int, callers: Callers) -> None:
        """Learn where the other servers are. ``member``: this one's id."""
        self._view, self._member = view, member
        if callers.key is not None:
            self.lines.view(view, member, callers.key)

    def settled(self, shard: Shard) -> Shard:
        """Return the shard of a server that has just come as one that knows where chunks are, where some have moved."""
        is_new = isinstance(shard, GradientShard) and shard.layout is None
        moving = self._moving(shard) if self._was_told and is_new else None
        return shard if moving is None else moving

    def meet(
        self, shard: Shard | None, callers: Callers, origin: Origin, message: Introduce, speaker: PublicKeys | None
    ) -> tuple[Shard | None, Error | None]:
        """Another server says who it is; return the shard, which chunks may come to then, or what is wrong with it."""
        moving = self._moving(shard)
        if moving is None or callers.key is None:
            return shard, stranger(message)  # it is said again
        if message.token != callers.key.line(message.member, self._member):
            text = "this does not prove that you are a server of this job"
            return shard, Error(message.request, "stranger", text)
        return moving, callers.introduce(origin, message, speaker)

    def hear(self, shard: Shard | None, message: Placed | MoveOrder) -> tuple[Shard | None, list[Send]]:
        """Take the scheduler's word on where chunks are, or are to be; return the shard, and what is to be said."""
        if isinstance(message, Placed):
            self._placed, self._was_told = unpacked(message.elsewhere), True
            if isinstance(shard, MovingShard):
                shard.place(self._placed)
            return shard, []
        self._leave, moving = message.leave, self._moving(shard)
        return (shard, []) if moving is None else (moving, moving.move(message, time.monotonic()))

    def may_leave(self, shard: Shard | None) -> bool:
        """Whether this server was told that it is not needed any more, and has no chunk."""
        return self._leave and isinstance(shard, MovingShard) and shard.is_empty

    def _moving(self, shard: Shard | None) -> MovingShard | None:
        """Return a shard as one whose chunks move; None for one whose chunks never do."""
        if isinstance(shard, MovingShard):
            return shard
        inner: object = shard
        if not isinstance(inner, GradientShard) or self._view is None:
            return None
        self._moves = MovingShard(inner, self._member, self._view, self._placed)
        return self._moves

    def where(self, index: int) -> int | None:
        """Return the rank of the server that has a chunk, or is about to, where chunks have moved; else None."""
        if self._moves is not None:
            return self._moves.where(index)
        servers = self._view.job.get("servers", 0) if self._view is not None else 0
        return holder(index, servers, self._placed) if self._placed and servers else None
