"""ShmListener: where workers of this host that share memory come in. Only headers travel, on Unix sockets."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from ps.errors import BadMessage, ProtocolError, Unshared
from ps.protocol.codec import decode, encode
from ps.protocol.layout import Chunk
from ps.protocol.messages import Error, Message, Share, Shared, SharePart
from ps.protocol.segment import Segment
from ps.protocol.spin import Spin
from ps.protocol.transports.listener import Line, Origin, WeightsMemory
from ps.protocol.transports.transport import Copy
from ps.protocol.transports.unix_listener import UnixConnection, UnixListener
from ps.protocol.unix_channel import UnixChannel
from ps.protocol.worker_memory import WorkerMemory
from ps.xp import HostArray


class _Sharer(UnixConnection[UnixChannel]):
    """A worker's channel and what it shares."""

    __slots__ = ("memory",)

    def __init__(self, channel: UnixChannel, listener: ShmListener) -> None:
        super().__init__(channel, listener)
        self.memory: WorkerMemory | None = None


class ShmListener(UnixListener[_Sharer]):
    """The listening end for workers that share memory."""

    SCHEME = "shm"

    def __init__(self, directory: Path, poller: zmq.Poller, rejected: Counter[str], spin: Spin, copy: Copy) -> None:
        super().__init__(directory, poller, rejected, spin)
        self._copy = copy
        self._weights_memory: tuple[Segment, HostArray] | None = None

    def _take_in(self, sock: socket.socket) -> _Sharer:
        channel = UnixChannel(sock)
        channel.expects_fds = True
        return _Sharer(channel, self)

    def _put(self, connection: _Sharer, header: bytes) -> None:
        connection.channel.put(header)

    def _read(self, connection: _Sharer) -> Iterator[tuple[Origin, Any, WorkerMemory | None]]:
        try:
            for header in connection.channel.receive():
                try:
                    message = decode(header)
                    if message.payload and connection.memory is None:
                        raise BadMessage(f"{type(message).__name__} for memory that was not shared")
                except ProtocolError as error:
                    self.reject(connection.origin, 0, error)
                    continue
                if isinstance(message, Error):
                    self._rejected["error"] += 1
                    continue
                yield connection.origin, message, connection.memory
        except BadMessage:  # not even a frame: there is no telling where the next one begins
            self._rejected["frames"] += 1

    def share(self, origin: Origin, message: Share | SharePart, weights_memory: WeightsMemory) -> None:
        """Map the memory that a worker hands over, and hand over what the weights are kept in."""
        connection = self._by_origin.get(origin)
        if connection is None:
            return
        fds = connection.channel.take_fds()
        try:
            weights = isinstance(message, Share) and message.weights
            if len(fds) != 1 + weights or not message.nbytes > 0:
                raise BadMessage(f"{message!r} with {len(fds)} open files")
            segment = Segment.adopt(fds.pop(0), WorkerMemory.size(message.nbytes))
            offered = Segment.adopt(fds.pop(0), message.nbytes) if weights else None
            if isinstance(message, SharePart):
                memory, shared = WorkerMemory(segment, message.nbytes, message.sections), None
            else:
                memory = WorkerMemory(segment, message.nbytes)
                shared = self._keep_weights_in(offered, message.nbytes, weights_memory)
        except (BadMessage, Unshared) as error:
            self._rejected["shm"] += 1
            self._send(origin, Error(message.request, "shm", str(error)))
            return
        finally:
            for fd in fds:
                os.close(fd)
        connection.memory = memory
        connection.channel.expects_fds = False
        connection.channel.send(encode(Shared(message.request, shared is not None)), [shared.fd] if shared else [])
        self._settle(connection)

    def keep_weights_in(self, segment: Segment, array: HostArray) -> None:
        """Hand this memory over to all who come, as that in which the weights are kept; ``array`` is all of it."""
        self._weights_memory = segment, array

    def _keep_weights_in(self, offered: Segment | None, nbytes: int, weights_memory: WeightsMemory) -> Segment | None:
        if offered is not None:
            array = offered.array(0, nbytes)
            if weights_memory(array) is array:
                self._weights_memory = offered, array
        if self._weights_memory is None or weights_memory(None) is not self._weights_memory[1]:
            return None
        return self._weights_memory[0]

    def perform(
        self, line: Line, message: Message, weights: HostArray | None, chunk: Chunk | None, *, aside: bool
    ) -> None:
        """Answer a worker; weights are put into its memory first."""
        connection = self._by_origin[line]
        if weights is not None and chunk is not None:
            try:
                if connection.memory is None:
                    raise BadMessage("weights for memory that was not shared")
                place = connection.memory.part("aside" if aside else "weights", chunk)
            except BadMessage as error:
                self.reject(line, getattr(message, "request", 0), error)
                return
            self._copy(place, weights)
        if isinstance(message, Error):
            self._rejected[message.code] += 1
        self._send(line, message)
