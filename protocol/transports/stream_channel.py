"""StreamChannel: a server of this host that is reached by a Unix socket of our own, on which tensors travel."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ps import sigterm
from ps.errors import BadMessage, ProtocolError, Unshared
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Identify, Message, Ping, Pong
from ps.protocol.segment import Segment
from ps.protocol.unix_stream import UnixStream
from ps.xp import HostArray

HANDSHAKE = 2.0
"""Seconds for a server to take the connection; beyond that another way is taken."""
SLICE = 0.1
"""Seconds between looks at whether this process is to end."""
MOST_EARLY = 100
"""Messages that may come before the server has said that it is there."""


class StreamChannel:
    """The line to a server. A payload is put where it belongs once it is whole: no half of one is ever seen."""

    window: int | None = None
    shares_memory = False
    weights_memory: Segment | None = None
    trouble = ""
    incoming = None  # nothing is read before it is asked for

    def __init__(self, path: str, identity: Identify) -> None:
        """Connect, and say who this is. Raises Unshared, which says why not."""
        self._path = path
        self._room: HostArray | None = None
        """Where payloads come in, one after the other."""
        self._payload: memoryview | None = None
        self._line = UnixStream.connect(path, self._staged)
        self._line.put(encode(identity))
        self._line.put(encode(Ping(0)))
        self._line.flush()
        try:
            self._early = _early(self._line)
        except (ProtocolError, Unshared) as error:
            self._line.close()
            raise Unshared(f"{path}: {error}") from None
        self.pollable = os.dup(self._line.fileno())
        """Stays the same when the connection is made anew."""

    def _staged(self, nbytes: int) -> HostArray:
        if self._room is None or self._room.nbytes < nbytes:
            self._room = np.empty(nbytes, np.uint8)
        return self._room[:nbytes]

    @property
    def closed(self) -> bool:
        return self._line.closed

    @property
    def stuck(self) -> bool:
        return self._line.unsent

    def flush(self) -> None:
        self._line.flush()

    def connect_again(self) -> None:
        """Connect where the server has ended the connection and is still there: what was lost is sent again."""
        if not self._line.closed:
            return
        try:
            line = UnixStream.connect(self._path, self._staged)
        except Unshared:  # it is gone, and whoever watches the members will say what that means
            return
        os.dup2(line.fileno(), self.pollable, inheritable=False)
        self._line = line

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        self._line.flush()
        if self._line.unsent:
            return False
        self._line.put(header, None if payload is None else payload.view(np.uint8).data)
        self._line.flush()
        return True

    def receive(self) -> Iterator[bytes]:
        early, self._early = self._early, []
        yield from early
        for header, payload in self._line.receive():
            self._payload = payload
            yield header
        self._payload = None

    def check(self, message: Message) -> None:
        if message.payload != (self._payload is not None):
            raise BadMessage(f"{message!r} with a payload, or without one, where it should not be so")

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        payload = self._payload
        if payload is None:
            raise BadMessage("there is no payload")
        lo, hi = region
        if into is not None and payload.nbytes == hi - lo:
            np.copyto(into[lo:hi], np.frombuffer(payload, np.uint8))
        return payload.nbytes

    def take(self) -> Any:
        self._room = None  # it is the caller's now
        return self._payload

    def process(self) -> int:
        return -1

    def close(self) -> None:
        self._line.close()
        if self.pollable >= 0:
            os.close(self.pollable)
            self.pollable = -1


def _early(line: UnixStream) -> list[bytes]:
    """Return what the server said before it answered that it is there."""
    found: list[bytes] = []
    poll, until = select.poll(), time.monotonic() + HANDSHAKE
    if not line.closed:  # by the very sending of the question
        poll.register(line.fileno(), select.POLLIN)
    while not line.closed:
        left = until - time.monotonic()
        if left <= 0:
            raise Unshared(f"no answer within {HANDSHAKE:g} s")
        poll.poll(min(left, SLICE) * 1000)
        sigterm.check()
        for header, payload in line.receive():
            if isinstance(decode(header), Pong):
                return found
            if payload is not None or len(found) >= MOST_EARLY:
                raise Unshared("it says what nobody asked for")
            found.append(header)
    raise Unshared("the server closed the line")
