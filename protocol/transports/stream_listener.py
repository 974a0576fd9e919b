"""StreamListener: where workers of this host come in whose tensors travel on Unix sockets of our own."""

from __future__ import annotations

import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from ps.errors import BadMessage, ProtocolError
from ps.protocol.codec import decode
from ps.protocol.layout import Chunk
from ps.protocol.messages import Error, Message, Ping, Pong, Share, SharePart
from ps.protocol.nuisance import MALFORMED, REFUSED, Nuisance
from ps.protocol.segment import Segment
from ps.protocol.spin import Spin
from ps.protocol.transports.listener import Line, Origin, WeightsMemory
from ps.protocol.transports.unix_listener import UnixConnection, UnixListener
from ps.protocol.unfinished import MOST_UNFINISHED
from ps.protocol.unix_stream import Sending, UnixStream, new_room
from ps.xp import HostArray

SOON = 64 << 10
"""Bytes of payloads that wait for other answers, at most: what is longer leaves at once."""


class _Streamer(UnixConnection[UnixStream]):
    """A worker's stream."""

    __slots__ = ("name",)

    def __init__(self, channel: UnixStream, listener: StreamListener, name: bytes) -> None:
        super().__init__(channel, listener, lends=True)
        self.name = name


class StreamListener(UnixListener[_Streamer]):
    """The listening end for workers that send and are sent what they do not share."""

    SCHEME = "unix"

    def __init__(
        self,
        directory: Path,
        poller: zmq.Poller,
        rejected: Counter[str],
        spin: Spin,
        most_unread: Callable[[], int],
    ) -> None:
        """``most_unread`` returns how many bytes of payloads are kept for a peer which does not read them."""
        super().__init__(directory, poller, rejected, spin)
        self._most_unread = most_unread
        self._nuisance = Nuisance()
        self._names = itertools.count()

    def _take_in(self, sock: socket.socket) -> _Streamer:
        return _Streamer(UnixStream(sock, self._room), self, b"%d" % next(self._names))

    def _room(self, nbytes: int) -> Any:
        """Return memory for a payload; where too much is under way, what began first is given up for it."""
        under_way = [each for each in self._by_fd.values() if each.channel.awaited]
        total = nbytes + sum(each.channel.awaited for each in under_way)
        for each in sorted(under_way, key=lambda each: each.channel.began):
            if total <= MOST_UNFINISHED:
                break
            total -= each.channel.awaited
            self._rejected["unfinished"] += 1
            self.cut(each.origin)
        return new_room(nbytes)

    def _put(self, connection: _Streamer, header: bytes) -> None:
        connection.channel.put(header)

    def _read(self, connection: _Streamer) -> Iterator[tuple[Origin, Any, Any]]:
        try:
            for header, payload in connection.channel.receive():
                try:
                    message = decode(header)
                    if message.payload != (payload is not None):
                        raise BadMessage(f"{type(message).__name__} with a wrong number of frames", "frames")
                except ProtocolError as error:
                    self.reject(connection.origin, 0, error)
                    continue
                if isinstance(message, Error):
                    self._rejected["error"] += 1
                elif isinstance(message, Ping):
                    self._send(connection.origin, Pong(message.request, "server", -1))
                else:
                    yield connection.origin, message, payload
        except BadMessage:  # not even a frame: there is no telling where the next one begins
            self._rejected["frames"] += 1

    def share(self, line: Line, message: Share | SharePart, weights_memory: WeightsMemory) -> None:
        """Refuse: no memory is shared here."""
        self.reject(line, message.request, BadMessage("memory is shared through another socket"))

    def keep_weights_in(self, segment: Segment, array: HostArray) -> None:
        """Do nothing: no memory is shared here."""

    def reject(self, origin: Origin, request: int, error: ProtocolError) -> None:
        """Count a message that makes no sense and tell its sender why."""
        super().reject(origin, request, error)
        self._bear(origin, MALFORMED)

    def perform(
        self, line: Line, message: Message, weights: HostArray | None, chunk: Chunk | None, *, aside: bool
    ) -> Sending | None:
        """Answer a worker, with weights that must not change before they have left.

        Dropped where the peer does not read what it was sent: it may ask again.
        """
        connection = self._by_origin[line]
        channel = connection.channel
        if weights is not None and channel.unsent_payload + weights.nbytes > self._most_unread():
            self._rejected["unread"] += 1
            return None
        if (header := self._written(message)) is None:
            return None
        sending = channel.put(header, None if weights is None else weights.view(np.uint8).data)
        if channel.unsent_payload > SOON:
            channel.flush()
        self._send_soon(connection)
        if isinstance(message, Error):
            self._rejected[message.code] += 1
            self._bear(line, REFUSED)
        return sending

    def _bear(self, origin: Origin, cost: int) -> None:
        """Count that a peer has said something wrong; if that was too much, its line ends."""
        connection = self._by_origin.get(origin)
        if connection is not None and self._nuisance.is_too_much(connection.name, cost, time.monotonic()):
            self._rejected["cut-off"] += 1
            self.cut(connection.origin)
