"""ZmqChannel: a server that ZeroMQ reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import zmq

from ps.errors import BadMessage
from ps.protocol.addresses import split_key
from ps.protocol.codec import encode
from ps.protocol.incoming import Incoming
from ps.protocol.messages import Identify, Message
from ps.protocol.segment import Segment
from ps.protocol.sockets import Socket, open_socket
from ps.xp import HostArray

MOST_TAKEN = 1000
"""Messages that are taken before anything else is looked after: a server may say more than is read meanwhile."""


class Carrier(Protocol):
    """A transport that ZeroMQ carries."""

    def connect(self, sock: Socket, address: str, *, probing: bool = False) -> str:
        """Connect to an address of this transport; return why nobody is reached there, as far as that is known."""
        ...


class ZmqChannel:
    """A DEALER socket; payloads are frames of their own."""

    window: int | None = None
    shares_memory = False
    weights_memory: Segment | None = None
    closed = False
    stuck = False

    def __init__(
        self, sock: Socket, incoming: Incoming, trouble: str = "", again: Callable[[], None] | None = None
    ) -> None:
        """``again``: connects the socket, which is connected, anew."""
        self.pollable: Any = sock
        self.trouble = trouble
        self.incoming = incoming
        self._again = again

    @classmethod
    def open(cls, context: zmq.Context[Socket], carrier: Carrier, address: str, identity: Identify) -> ZmqChannel:
        """Connect by a transport that ZeroMQ carries, and say who this is."""
        sock = open_socket(context, zmq.DEALER)
        incoming = Incoming(sock, address)  # before it connects

        def again() -> None:
            sock.disconnect(split_key(address)[0])
            carrier.connect(sock, address)

        channel = cls(sock, incoming, carrier.connect(sock, address, probing=True), again)
        channel.send(encode(identity))
        return channel

    def flush(self) -> None:
        pass

    def connect_again(self) -> None:
        """Connect where ZeroMQ does not any more, since whoever was there broke the protocol."""
        if self._again is not None:
            self.incoming.connect_again(self._again)

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        try:
            if payload is None:
                self.pollable.send(header, zmq.NOBLOCK)
                return True
            self.pollable.send(header, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        self.pollable.send(payload.view(np.uint8).data, copy=False)  # bfloat16 has no buffer of its own
        return True

    def receive(self) -> Iterator[bytes]:
        socket = self.pollable
        for _ in range(MOST_TAKEN):
            try:
                header = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                self.incoming.drained()
                return
            self.incoming.took(len(header))
            yield header
            if socket.getsockopt(zmq.RCVMORE):
                raise BadMessage("a message with a wrong number of frames")

    def check(self, message: Message) -> None:
        if message.payload != bool(self.pollable.getsockopt(zmq.RCVMORE)):
            raise BadMessage(f"{message!r} with a wrong number of frames")

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        if into is None:
            size = len(self.pollable.recv(copy=False))
        else:
            lo, hi = region
            size = int(self.pollable.recv_into(into[lo:hi].data))
        self.incoming.took(size)
        return size

    def take(self) -> Any:
        frame = self.pollable.recv(copy=False)
        self.incoming.took(len(frame))
        return frame.buffer

    def process(self) -> int:
        return -1

    def close(self) -> None:
        self.incoming.close()
        self.pollable.close()
