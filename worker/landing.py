"""Landing: where weights that servers send are put, and what is noted of them as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.protocol.messages import Kept, Message, Pushed, Vetoed, Weights, WeightsDelta
from ps.protocol.messages.rate import Rate
from ps.worker.traffic import Traffic
from ps.xp import HostArray

Follow = Callable[[Any, int, int], int]
"""Takes in weights that come compressed: payload, chunk, version; returns the payload's bytes."""


class Source(Protocol):
    """The channel that an answer came by."""

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int: ...

    def take(self) -> Any: ...


@dataclass(slots=True, eq=False)
class Landing:
    """Puts weights into one flat buffer. Done answer by answer: an interrupted worker knows what it has."""

    into: HostArray | None
    """The flat buffer, uint8; None where the weights are read in the servers' own memory."""
    traffic: Traffic
    versions: dict[int, int] | None = None
    """Takes each chunk's version, if the buffer is this worker's own copy of the weights."""
    hear: Callable[[int, Sequence[Rate]], None] | None = None
    """Takes what a chunk's answer says of the learning rate."""
    follow: Follow | None = None
    kept: HostArray | None = None
    """What came that is no chunk's: buffers that a server had kept."""

    def take(self, channel: Source, message: Message, region: tuple[int, int], aside: bool) -> None:
        """Take one answer in. Raises BadMessage when its weights are not those of the chunk."""
        if isinstance(message, Kept):
            self.kept = np.frombuffer(channel.take(), np.uint8)
            return
        if not isinstance(message, Weights | Pushed | WeightsDelta):
            return
        size = region[1] - region[0]
        if isinstance(message, Weights):
            came = channel.land(self.into, region, aside)
            if came != size:
                raise BadMessage(f"{came} bytes for chunk {message.chunk}, which has {size}")
        elif isinstance(message, WeightsDelta):
            if self.follow is None:
                raise BadMessage(f"{message!r}, though nothing in this job is compressed")
            size = self.follow(channel.take(), message.chunk, message.version)
        elif isinstance(message, Vetoed):
            size = 0
        if message.rates and self.hear is not None:
            self.hear(message.chunk, message.rates)
        if self.versions is not None:
            self.versions[message.chunk] = message.version
        if self.versions is not None or isinstance(message, Weights):
            self.traffic.bytes_down += size
