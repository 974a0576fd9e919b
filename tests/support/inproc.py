"""InProcess: a transport of a module outside of the package, between threads of one process. No bytes travel."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import zmq

from ps.errors import BadMessage, ProtocolError, Unshared
from ps.plugins import transport
from ps.protocol.codec import decode, encode
from ps.protocol.error_codes import code_of
from ps.protocol.layout import Chunk
from ps.protocol.messages import Error, Identify, Message, Share
from ps.protocol.sockets import Socket
from ps.protocol.transports.listener import Line, Origin, WeightsMemory
from ps.protocol.transports.transport import Listening, Place, Sharing
from ps.xp import HostArray

LISTENERS: dict[str, InProcessListener] = {}
_numbers = itertools.count()


class Queue:
    """Messages for another thread, whose poller sees that there are some."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.fd = self._reader.fileno()

    def put(self, item: Any) -> None:
        self._items.append(item)
        with contextlib.suppress(OSError):  # so many wake it that one more does not matter, or it is closed
            self._writer.send(b"!")

    def take(self) -> Iterator[Any]:
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(1 << 16):
                pass
        while self._items:
            yield self._items.popleft()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class InProcessListener:
    def __init__(self, place: Place) -> None:
        self.address = f"inproc://{next(_numbers)}"
        self.calls = Queue()
        self._lines: dict[Line, InProcessChannel] = {}
        self._rejected = place.rejected
        place.poller.register(self.calls.fd, zmq.POLLIN)
        LISTENERS[self.address] = self

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._lines

    def receive(self, events: Iterable[Any]) -> Iterator[tuple[Origin, Any, Any]]:
        for channel, header, payload in self.calls.take() if self.calls.fd in events else ():
            if header is None:
                self._lines.pop(channel.line, None)
                continue
            self._lines[channel.line] = channel
            try:
                message = decode(header)
                if message.payload != (payload is not None):
                    raise BadMessage(f"{message!r} without what belongs to it", "frames")
            except ProtocolError as error:
                self.reject(channel.line, 0, error)
                continue
            yield channel.line, message, payload

    def perform(
        self, line: Line, message: Message, weights: HostArray | None, chunk: Chunk | None, *, aside: bool
    ) -> None:
        self._lines[line].answers.put((encode(message), None if weights is None else weights.copy()))

    def share(self, line: Line, message: Share, weights_memory: WeightsMemory) -> None:
        self.reject(line, message.request, BadMessage("memory is shared through a Unix socket"))

    def reject(self, line: Line, request: int, error: ProtocolError) -> None:
        self._rejected[error.reason] += 1
        self._lines[line].answers.put((encode(Error(request, code_of(error), str(error))), None))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        del LISTENERS[self.address]
        self.calls.close()


class InProcessChannel:
    window: int | None = None
    incoming = None
    shares_memory = False
    trouble = ""
    weights_memory = None
    closed = stuck = False

    def __init__(self, listener: InProcessListener) -> None:
        self.line = Line(listener)
        self.answers = Queue()
        self.pollable = self.answers.fd
        self._listener = listener
        self._payload: HostArray | None = None

    def connect_again(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        self._listener.calls.put((self, header, None if payload is None else payload.data))
        return True

    def receive(self) -> Iterator[bytes]:
        for header, payload in self.answers.take():
            self._payload = payload
            yield header

    def check(self, message: Message) -> None:
        if message.payload != (self._payload is not None):
            raise BadMessage(f"{message!r} without what belongs to it")

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        found = np.frombuffer(self.take(), np.uint8)
        if into is not None:
            into[region[0] : region[1]] = found
        return found.nbytes

    def take(self) -> Any:
        assert self._payload is not None
        return self._payload.data

    def close(self) -> None:
        self._listener.calls.put((self, None, None))
        self.answers.close()


@transport("inproc")
class InProcess:
    name = "inproc"

    def listen(self, place: Place) -> Listening:
        listener = InProcessListener(place)
        return Listening(listener.address, listener)

    def reaches(self, address: str) -> bool:
        return address in LISTENERS

    def open(
        self, context: zmq.Context[Socket], address: str, identity: Identify, sharing: Sharing
    ) -> InProcessChannel:
        if address not in LISTENERS:
            raise Unshared("the server has gone")
        channel = InProcessChannel(LISTENERS[address])
        channel.send(encode(identity))
        return channel
