"""ShmChannel: a server of this host that shares memory. Headers go by a Unix socket; tensors are already there."""

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
from ps.protocol.messages import Error, Identify, Message, Share, Shared, SharePart, Waiting
from ps.protocol.segment import Segment
from ps.protocol.unix_channel import UnixChannel
from ps.protocol.worker_memory import WorkerMemory
from ps.xp import HostArray

HANDSHAKE = 5.0
"""Seconds for a server to map what it is given; beyond that another way is taken."""
NEWS = 60.0
"""Seconds for which one that says it has not heard of the job yet is waited for."""
SLICE = 0.1
"""Seconds between looks at whether this process is to end."""
UNLIMITED = 1 << 62


class ShmChannel:
    """The line to a server, and the memory that both hold."""

    window: int | None = UNLIMITED  # what is not answered takes no memory
    shares_memory = True
    trouble = ""
    incoming = None  # nothing but headers comes, as few as the line holds

    def __init__(self, line: UnixChannel, memory: WorkerMemory, weights_memory: Segment | None) -> None:
        self.pollable = line.fileno()
        self.weights_memory = weights_memory
        """The memory in which this server keeps its weights, if it lets them be read there."""
        self._line = line
        self._memory = memory
        self._gradients = memory.array("gradients")
        self._address = _address(self._gradients)

    @classmethod
    def open(
        cls,
        path: str,
        memory: WorkerMemory,
        weights_memory: Segment | None,
        identity: Identify,
        least: int | None = None,
    ) -> ShmChannel:
        """Connect, say who this is, and hand the memory over; ``weights_memory`` is offered for them.

        What the server keeps its weights in has at least so many bytes.

        Raises Unshared, which says why.
        """
        line = UnixChannel.connect(path)
        line.expects_fds = True
        given = [memory.segment, *([weights_memory] if weights_memory else [])]
        share = (
            Share(0, identity.member, memory.nbytes, weights_memory is not None)
            if memory.sections is None
            else SharePart(0, identity.member, memory.nbytes, memory.sections)
        )
        line.send(encode(identity))
        line.send(encode(share), [segment.fd for segment in given])
        try:
            answer = _answer(line)
            fds = line.take_fds()
            kept = (
                Segment.adopt(fds.pop(0), memory.nbytes if least is None else least) if answer.weights and fds else None
            )
        except (ProtocolError, Unshared) as error:
            line.close()
            raise Unshared(f"{path}: {error}") from None
        for fd in fds:
            os.close(fd)
        line.expects_fds = False
        return cls(line, memory, kept)

    @property
    def closed(self) -> bool:
        return self._line.closed

    @property
    def stuck(self) -> bool:
        return self._line.unsent

    def flush(self) -> None:
        self._line.flush()

    def connect_again(self) -> None:
        pass

    def send(self, header: bytes, payload: HostArray | None = None, region: tuple[int, int] = (0, 0)) -> bool:
        self.flush()
        if self.stuck:
            return False
        lo, hi = region
        if payload is not None and _address(payload) != self._address + lo:
            np.copyto(self._gradients[lo:hi].view(payload.dtype), payload)
        self._line.send(header)
        return True

    def receive(self) -> Iterator[bytes]:
        return self._line.receive()

    def check(self, message: Message) -> None:
        pass

    def land(self, into: HostArray | None, region: tuple[int, int], aside: bool) -> int:
        lo, hi = region
        if aside and into is not None:
            np.copyto(into[lo:hi], self._memory.array("aside")[lo:hi])
        return hi - lo

    def take(self) -> Any:
        raise BadMessage("a payload where none travels")

    def process(self) -> int:
        return self._line.peer()

    def close(self) -> None:
        self._line.close()


def _answer(line: UnixChannel) -> Shared:
    poll, patience, began = select.poll(), HANDSHAKE, time.monotonic()
    if not line.closed:  # by the very sending of the question
        poll.register(line.fileno(), select.POLLIN)
    while not line.closed:
        left = began + patience - time.monotonic()
        if left <= 0:
            raise Unshared(f"no answer within {patience:g} s")
        poll.poll(min(left, SLICE) * 1000)
        sigterm.check()
        for header in line.receive():
            message = decode(header)
            if isinstance(message, Shared):
                return message
            if isinstance(message, Waiting):
                patience = NEWS
                continue
            raise Unshared(message.text if isinstance(message, Error) else f"it answered {message!r}")
    raise Unshared("the server closed the line")


def _address(array: HostArray) -> int:
    return int(array.__array_interface__["data"][0])
