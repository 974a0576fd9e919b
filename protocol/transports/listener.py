"""Listener: where workers come in that ZeroMQ does not carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ps.errors import ProtocolError
from ps.protocol.layout import Chunk
from ps.protocol.messages import Message, Share, SharePart
from ps.protocol.segment import Segment
from ps.xp import HostArray

WeightsMemory = Callable[[HostArray | None], HostArray | None]
"""Takes memory that is offered to keep the weights in, or None, and returns the memory that they are kept in."""


class Line:
    """A worker's connection as a listener knows it; equal to nothing that comes from a network."""

    __slots__ = ("lends", "listener")

    def __init__(self, listener: Listener | None = None, *, lends: bool = False) -> None:
        """``lends``: weights may be on their way from where they lie when ``perform`` returns."""
        self.listener = listener
        self.lends = lends


Origin = bytes | Line
"""The connection that a message came on: of a ROUTER by the id that its peer may choose, or a listener's line."""


class Tracker(Protocol):
    """What whoever sends weights knows: they are out of this process's hands once ``done`` is true."""

    @property
    def done(self) -> bool: ...


class Listener(Protocol):
    """Like an Inbox it keeps garbage to itself, and counts it; never blocks."""

    def __contains__(self, origin: Origin) -> bool:
        """Whether a line is one of this listener's and still there."""
        ...

    def receive(self, events: Iterable[Any]) -> Iterator[tuple[Origin, Any, Any]]:
        """Yield (origin, message, payload) for what the poller found; whoever shares memory has that as its payload."""
        ...

    def perform(
        self, line: Line, message: Message, weights: HostArray | None, chunk: Chunk | None, *, aside: bool
    ) -> Tracker | None:
        """Answer, with a chunk's weights if there are some; return what knows when those may change, if not now."""
        ...

    def share(self, line: Line, message: Share | SharePart, weights_memory: WeightsMemory) -> None:
        """Take the memory that a worker hands over, and hand over what the weights are kept in."""
        ...

    def keep_weights_in(self, segment: Segment, array: HostArray) -> None:
        """Hand this memory over to all who come, as that in which the weights are kept; ``array`` is all of it."""
        ...

    def reject(self, line: Line, request: int, error: ProtocolError) -> None:
        """Count a message that makes no sense and tell its sender why."""
        ...

    def cut(self, line: Line) -> None:
        """End a line, if it is still there."""
        ...

    def flush(self) -> None:
        """Send what was held back."""
        ...

    def close(self) -> None:
        """Close everything."""
        ...
