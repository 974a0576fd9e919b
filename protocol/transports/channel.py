"""ServerChannel: how requests reach one server and its answers come back. One class for each way there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ps.protocol.incoming import Incoming
from ps.protocol.messages import Message
from ps.protocol.segment import Segment
from ps.xp import HostArray


class ServerChannel(Protocol):
    """A connection to one server; never blocks."""

    pollable: Any
    """What a ``zmq.Poller`` waits for."""
    window: int | None
    """Bytes that may be unanswered, if this way has a limit of its own."""
    shares_memory: bool
    """Whether tensors lie in the memory that this worker has handed over, and do not travel."""
    weights_memory: Segment | None
    """The memory in which the server keeps its weights, if it lets them be read there."""
    incoming: Incoming | None
    """What comes, where there is no other bound to it; whoever asks keeps what is due."""
    trouble: str
    """Why nobody could be reached there when it was opened, if so; whoever comes later is."""

    @property
    def closed(self) -> bool:
        """Whether the server has gone, as far as can be told; there is nothing to wait for then."""
        ...

    @property
    def stuck(self) -> bool:
        """Whether something that was sent still waits for room; ``flush`` sends it when the pollable has some."""
        ...

    def flush(self) -> None:
        """Send what waits for room, as far as there is any."""
        ...

    def connect_again(self) -> None:
        """Connect anew where nothing else would any more; to be called now and then while an answer is waited for."""
        ...

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        """Send a header and a chunk's elements, which lie at ``region`` of the flat buffer; False: no room now.

        The payload must not change before the answer.
        """
        ...

    def receive(self) -> Iterator[bytes]:
        """Yield headers that are here, not for ever if more keep coming; a payload is to be landed before the next."""
        ...

    def check(self, message: Message) -> None:
        """Raise BadMessage unless the message just received came with what belongs to it."""
        ...

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        """Put the payload of the answer just received into this region of a flat buffer, if given; return its bytes.

        ``aside``: in shared memory the server has put it aside, to be copied from there.
        """
        ...

    def take(self) -> Any:
        """Return the payload of the message just received, bytes-like."""
        ...

    def process(self) -> int:
        """Return a new descriptor of the process at the other end (pidfd), -1 where it is none of this host's."""
        ...

    def close(self) -> None:
        """Close it; what was not sent is dropped."""
        ...
