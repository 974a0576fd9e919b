"""Reply: what a shard wants said to somebody."""

from __future__ import annotations

from dataclasses import dataclass

from ps.protocol.messages import Message
from ps.server.shard.loan import Loan


@dataclass(frozen=True, slots=True)
class Reply:
    """A message for whoever is at ``origin``; ``loan`` holds the weights that go with it.

    In shared memory they are put ``aside`` if the worker asked for that.
    """

    origin: bytes
    message: Message
    loan: Loan | None = None
    aside: bool = False
