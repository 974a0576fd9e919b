"""ServerChannel: how requests reach one server and its answers come back. One class for each way there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import zmq

from ps.errors import BadMessage
from ps.protocol.messages import Message
from ps.protocol.transport import Socket, connect, open_socket
from ps.xp import HostArray


class ServerChannel(Protocol):
    """A connection to one server; never blocks."""

    pollable: Any
    """What a ``zmq.Poller`` waits for."""
    window: int | None
    """Bytes that may be unanswered, if this way has a limit of its own."""

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

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        """Send a header and a chunk's elements, which lie at ``region`` of the flat buffer; False: no room now.

        The payload must not change before the answer.
        """
        ...

    def receive(self) -> Iterator[bytes]:
        """Yield the headers that are here; a payload is to be landed before the next."""
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

    def close(self) -> None:
        """Close it; what was not sent is dropped."""
        ...


class ZmqChannel:
    """A DEALER socket; payloads are frames of their own."""

    window: int | None = None
    closed = False
    stuck = False

    def __init__(self, context: zmq.Context[Socket], address: str) -> None:
        self.pollable = open_socket(context, zmq.DEALER)
        connect(self.pollable, address)

    def flush(self) -> None:
        pass

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        try:
            if payload is None:
                self.pollable.send(header, zmq.NOBLOCK)
                return True
            self.pollable.send(header, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        self.pollable.send(payload.data, copy=False)
        return True

    def receive(self) -> Iterator[bytes]:
        socket = self.pollable
        while True:
            try:
                header = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield header
            if socket.getsockopt(zmq.RCVMORE):
                raise BadMessage("a message with a wrong number of frames")

    def check(self, message: Message) -> None:
        if message.payload != bool(self.pollable.getsockopt(zmq.RCVMORE)):
            raise BadMessage(f"{message!r} with a wrong number of frames")

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        if into is None:
            return len(self.pollable.recv(copy=False))
        lo, hi = region
        return int(self.pollable.recv_into(into[lo:hi].data))

    def take(self) -> Any:
        return self.pollable.recv(copy=False).buffer

    def close(self) -> None:
        self.pollable.close()
