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
from ps.protocol.transports.registry import choose, connect, shares_memory
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
        self._addresses: list[str] = []
        self._sockets: list[Socket] = []
        self._incoming: list[Incoming] = []
        self.peers: Sequence[Peer] = ()

    def connect(self, peers: Sequence[Peer], chunk: int) -> bool:
        """Connect to these servers; return whether they are others than before. Raises Refused for one out of reach.

        ``chunk``: the bytes that a chunk of the model has at most.
        """
        self.peers = sorted(peers, key=lambda peer: peer.rank)
        addresses = [_address(peer) for peer in self.peers]
        if addresses == self._addresses:
            return False
        self._disconnect()
        self._addresses = addresses
        for address in addresses:
            sock = open_socket(self._context, zmq.DEALER)
            self._sockets.append(sock)
            incoming = Incoming(sock, address)
            incoming.due = LAST + chunk
            self._incoming.append(incoming)
            connect(sock, address)
            self._poller.register(sock, zmq.POLLIN)
        return True

    def send(self, rank: int, message: Message, payload: HostArray | None = None) -> None:
        """Say something; what does not get away is said again by whoever waits for the answer."""
        frames: list[Any] = [encode(message), *([] if payload is None else [payload.view(np.uint8)])]
        with contextlib.suppress(zmq.Again):
            self._sockets[rank].send_multipart(frames, zmq.NOBLOCK)

    def receive(self, seconds: float) -> Iterator[tuple[int, Message, Any]]:
        """Wait for messages for a while; yield (rank, message, payload), but nothing malformed."""
        ready = dict(self._poller.poll(max(0, int(seconds * 1000))))
        for rank, (sock, incoming) in enumerate(zip(self._sockets, self._incoming, strict=True)):
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

    def close(self) -> None:
        """Close all; nothing is waited for."""
        self._disconnect()
        self._context.term()

    def _disconnect(self) -> None:
        for incoming in self._incoming:
            incoming.close()
        for sock in self._sockets:
            if sock in self._poller:
                self._poller.unregister(sock)
            sock.close()
        self._sockets, self._incoming = [], []


def _address(peer: Peer) -> str:
    return next(each for each in choose(peer.addresses, "auto", str(peer)) if not shares_memory(each))
