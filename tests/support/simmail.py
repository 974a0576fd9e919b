"""Mail between simulated processes, and how much may go wrong with it and with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ps.protocol.messages import Message
from ps.server.send import Send
from ps.xp import HostArray


@dataclass
class Faults:
    """How many of each may happen."""

    repeats: int = 0
    losses: int = 0
    deaths: int = 0
    joins: int = 0
    restarts: int = 0
    interrupts: int = 0
    comers: int = 0
    """Servers that join."""
    drains: int = 0
    server_deaths: int = 0
    """Of servers that have no chunk, as far as the scheduler knows."""


@dataclass
class Letter:
    """A message under way; ``loan`` and ``copy`` are the weights as lent, and as they were then."""

    message: Message
    payload: HostArray | None = None
    reply: Send | None = None
    copy: bytes | None = None
    sent: bool = field(default=False)

    @property
    def done(self) -> bool:
        """As a lease: whether the weights have left."""
        return self.sent
