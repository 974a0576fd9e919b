"""Batch: requests that are waited for together. Request: one of them, on its way to one server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ps.errors import PSError
from ps.protocol.messages.rate import Rate
from ps.xp import HostArray

Follow = Callable[[Any, int, int], int]


@dataclass(slots=True, eq=False)
class Batch:
    """What is asked of the servers at once, and what their answers said."""

    label: str = ""
    """What it is about, for messages: ``clock 417``."""
    into: HostArray | None = None
    """The flat buffer that weights land in; without one they are dropped."""
    versions: dict[int, int] | None = None
    """Takes each landed chunk's version."""
    remaining: int = 0
    missing: set[int] = field(default_factory=set)
    """The chunks that are not answered yet."""
    chunks: set[int] = field(default_factory=set)
    """The chunks whose gradients it pushes."""
    rates: tuple[Rate, ...] = ()
    """What it says of the learning rate."""
    hear: Callable[[Sequence[Rate]], None] | None = None
    """Takes what answers say of it."""
    staleness: int = 0
    late: set[int] = field(default_factory=set)
    """The chunks for which it came too late."""
    collected: int = 0
    """The latest clock that is collected where it came too late."""
    follow: Follow | None = None
    """Takes in weights that come compressed: payload, chunk, version; returns the payload's bytes."""
    later: dict[int, float] = field(default_factory=dict)
    """The chunks of a delta for which a server had no room, and the seconds after which it may have some."""
    held: set[int] = field(default_factory=set)
    """The chunks of a delta that servers said they have."""
    squares: dict[int, float] = field(default_factory=dict)
    join_clock: int = 0
    """The highest clock an Attached named."""
    error: PSError | None = None
    """The first error that a server answered."""

    @property
    def done(self) -> bool:
        """Whether everything was answered."""
        return self.remaining == 0


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
