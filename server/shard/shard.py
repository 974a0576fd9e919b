"""Shard: what a server asks of its part of the model, whatever the job's mode. Messages in, messages out.

A shard has no sockets and no clock: the caller says what time it is and performs what comes back. Weights in a Send are
lent (``Send.loan``): the shard does not touch them before the caller has sent them.
"""

from __future__ import annotations

from typing import Any, Protocol

from ps.config.job import JobConfig
from ps.protocol.messages import Message, RoundOrder, Unseal, View
from ps.server.send import Origin, Send
from ps.server.shard.chunk import ChunkState
from ps.xp import HostArray

Order = RoundOrder | Unseal
"""What the scheduler wants done."""


class Shard(Protocol):
    """One server's part of a model as a state machine."""

    @property
    def job(self) -> JobConfig:
        """The settings of its job."""
        ...

    @property
    def chunks(self) -> dict[int, ChunkState]:
        """What is here of the model."""
        ...

    @property
    def deserted(self) -> bool:
        """Whether no worker takes part, or is still to begin."""
        ...

    def expects(self, member: int) -> bool:
        """Whether a member's messages are a sign that the job goes on."""
        ...

    def weights_memory(self, offered: HostArray | None) -> HostArray | None:
        """Return the memory in which the weights are kept for workers to read, if there is any.

        ``offered`` is taken for it if nothing was initialised yet: uint8, as long as the model's flat buffer. Other
        servers keep their chunks there too.
        """
        ...

    def view(self, view: View, now: float) -> list[Send]:
        """Take a new view of the members. Raises ConfigError."""
        ...

    def receive(self, origin: Origin, message: Message, payload: Any, now: float) -> list[Send]:
        """Take a worker's message and return what is to be said now.

        ``payload`` is the raw frame (bytes-like) of messages that have one, or the memory that the worker shares, where
        its elements lie. Raises BadMessage when the message cannot be meant; nothing has changed then.
        """
        ...

    def order(self, order: Order) -> list[Send]:
        """Take what the scheduler wants done for a round; answers that waited for it come first."""
        ...

    def tick(self, now: float) -> list[Send]:
        """Do what is due because time has passed; to be called every second or so."""
        ...

    def report(self, now: float) -> dict[str, Any]:
        """Return what the status shows of this server."""
        ...
