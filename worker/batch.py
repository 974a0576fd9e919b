"""Batch: requests that are waited for together. Request: one of them, on its way to one server."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from ps.dataclass import dataclass
from ps.errors import PSError
from ps.protocol.messages import Late, Message, Vetoed
from ps.worker.landing import Landing
from ps.xp import HostArray


@dataclass(slots=True, eq=False)
class Batch:
    """What is asked of the servers at once, and what they answered."""

    label: str = ""
    """What it is about, for messages: ``clock 417``."""
    landing: Landing | None = None
    """Takes in the weights that answers bring; without one they are dropped."""
    remaining: int = 0
    missing: set[int] = field(default_factory=set)
    """The chunks that are not answered yet."""
    answers: list[Message] = field(default_factory=list)
    """In the order in which they came."""
    error: PSError | None = None
    """The first error that a server answered."""
    late: bool = False
    """Whether it came too late for a chunk."""

    def answered(self, message: Message) -> None:
        """Take an answer."""
        self.answers.append(message)
        self.late |= type(message) is Late

    @property
    def done(self) -> bool:
        """Whether everything was answered."""
        return self.remaining == 0

    @property
    def vetoed(self) -> bool:
        """Whether a worker has vetoed the clock that it was for."""
        return bool(self.answers) and isinstance(self.answers[-1], Vetoed)

    @property
    def staleness(self) -> int:
        """The greatest staleness among the answers so far."""
        return max((getattr(answer, "staleness", 0) for answer in self.answers), default=0)


@dataclass(slots=True, eq=False)
class Request:
    """One message to one server."""

    message: Any
    payload: HostArray | None
    region: tuple[int, int]
    """First byte and byte behind the last of the chunk in the flat buffer."""
    batch: Batch
    taken: bool = False
    """Whether its server is known to have it, and to keep it until others have come: it is not on its way any more."""

    @property
    def chunk(self) -> int | None:
        """The chunk it is about, if it is about one."""
        return getattr(self.message, "chunk", None)

    @property
    def aside(self) -> bool:
        """Whether weights that come through shared memory are put aside, to be copied from there."""
        return getattr(self.message, "aside", False)

    @property
    def cost(self) -> int:
        """What the request takes from the window, in bytes: as much as its chunk has, in whichever direction, or as its
        payload has if that is compressed."""
        size = self.region[1] - self.region[0]
        return size if self.payload is None else min(size, self.payload.nbytes)
