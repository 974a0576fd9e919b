"""Send: what a shard or the scheduler wants said to somebody; whoever has the sockets performs it."""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.protocol.messages import Message
from ps.protocol.transports.listener import Line, Origin
from ps.server.loan import Loan
from ps.xp import HostArray

__all__ = ["ASKER", "SCHEDULER", "Line", "Origin", "Send", "To"]

To = Origin | int
"""A connection, or the id of a member."""

ASKER = b""
"""Whoever sent the message that is being answered."""
SCHEDULER = 0
"""No member has this id: it is the scheduler's."""


@dataclass(frozen=True, slots=True)
class Send:
    """A message for ``to``. ``loan`` holds the weights that go with it, ``payload`` anything else: it is copied.

    In shared memory weights are put ``aside`` if the worker asked for that.
    """

    to: To
    message: Message
    loan: Loan | None = None
    aside: bool = False
    payload: HostArray | None = None
