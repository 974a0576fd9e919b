"""Servers: the sockets by which a follower talks with a job's servers. They belong to one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import zmq

from ps.errors import ProtocolError
from ps.protocol.codec import decode, encode
from ps.protocol.guarded_context import GuardedContext
from ps.protocol.incoming import Incoming
from ps.protocol.membership import Peer
from ps.protocol.messages import Message
from ps.protocol.security import Security
from ps.protocol.sockets import Socket, open_socket
from ps.protocol.transports.registry import choose, connect, is_for_all
from ps.xp import HostArray

MOST_TAKEN = 100
"""Messages that are taken from one server before the others are looked at."""
LAST = 64 << 20
"""Bytes of the last weights that a server sends unasked before any are read; it is never asked for more at a time."""


class Servers:
    """A connection to each server, by rank."""

    def __init__(self, security: Security) -> None:
        self._context: zmq.Context[Socket] = GuardedContext.of(security)
        self._poller = zmq.Poller()
        self._addresses: dict[int, str] = {}
        self._sockets: dict[int, Socket] = {}
        self._incoming: dict[int, Incoming] = {}

    def connect(self, peers: Sequence[Peer], chunk: int) -> bool:
        """Connect to these servers; return whether they are others than before. Raises Refused for one out of reach.

        ``chunk``: the bytes that a chunk of the model has at most.
        """
        addresses = {peer.rank: _address(peer) for peer in peers}
        if addresses == self._addresses:
            return False
        for rank in [rank for rank, address in self._addresses.items() if addresses.get(rank) != address]:
            self._part(rank)
        for rank in addresses.keys() - self._addresses.keys():
            address = self._addresses[rank] = addresses[rank]
            sock = self._sockets[rank] = open_socket(self._context, zmq.DEALER)
            incoming = self._incoming[rank] = Incoming(sock, address)
            incoming.due = LAST + chunk
            connect(sock, address)
            self._poller.register(sock, zmq.POLLIN)
        return True

    def send(self, rank: int, message: Message, payload: HostArray | None = None) -> None:
        """Say something; what does not get away is said again by whoever waits for the answer."""
        frames: list[Any] = [encode(message), *([] if payload is None else [payload.view(np.uint8)])]
        with contextlib.suppress(zmq.Again, KeyError):  # nor to a server that has gone
            self._sockets[rank].send_multipart(frames, zmq.NOBLOCK)

    def receive(self, seconds: float) -> Iterator[tuple[int, Message, Any]]:
        """Wait for messages for a while; yield (rank, message, payload), but nothing malformed."""
        ready = dict(self._poller.poll(max(0, int(seconds * 1000))))
        for rank, sock in list(self._sockets.items()):
            incoming = self._incoming[rank]
            incoming.look()
            if (refusal := incoming.refusal()) is not None:
                raise refusal
            for _ in range(MOST_TAKEN if sock in ready else 0):
                try:
                    header, *frames = incoming.frames()
                except zmq.Again:
                    break
                try:
                    message = decode(header.bytes)
                except ProtocolError:
                    continue
                if len(frames) == message.payload:
                    yield rank, message, frames[0].buffer if frames else None

    def close(self, linger: float = 0.0) -> None:
        """Close all; for so many seconds at most it is waited that what was said leaves."""
        for sock in self._sockets.values():
            sock.setsockopt(zmq.LINGER, int(linger * 1000))
        for rank in list(self._sockets):
            self._part(rank)
        self._context.term()

    def _part(self, rank: int) -> None:
        """Have no connection to a server any more."""
        sock = self._sockets.pop(rank)
        del self._addresses[rank]
        self._incoming.pop(rank).close()
        if sock in self._poller:
            self._poller.unregister(sock)
        sock.close()


def _address(peer: Peer) -> str:
    return next(each for each in choose(peer.addresses, "auto", str(peer)) if is_for_all(each))
