"""Servers: the sockets by which a follower talks with a job's servers. They belong to one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import zmq

from ps.errors import ProtocolError
from ps.protocol.codec import decode, encode
from ps.protocol.membership import Peer
from ps.protocol.messages import Message
from ps.protocol.sockets import Socket, open_socket
from ps.protocol.transports.registry import choose, connect, shares_memory

MOST_TAKEN = 100
"""Messages that are taken from one server before the others are looked at."""


class Servers:
    """A connection to each server, by rank."""

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._poller = zmq.Poller()
        self._addresses: list[str] = []
        self._sockets: list[Socket] = []
        self.peers: Sequence[Peer] = ()

    def connect(self, peers: Sequence[Peer]) -> bool:
        """Connect to these servers; return whether they are others than before. Raises Refused for one out of reach."""
        self.peers = sorted(peers, key=lambda peer: peer.rank)
        addresses = [_address(peer) for peer in self.peers]
        if addresses == self._addresses:
            return False
        self._disconnect()
        self._addresses = addresses
        for address in addresses:
            sock = open_socket(self._context, zmq.DEALER)
            self._sockets.append(sock)
            connect(sock, address)
            self._poller.register(sock, zmq.POLLIN)
        return True

    def send(self, rank: int, message: Message) -> None:
        """Say something; what does not get away is said again by whoever waits for the answer."""
        with contextlib.suppress(zmq.Again):
            self._sockets[rank].send(encode(message), zmq.NOBLOCK)

    def receive(self, seconds: float) -> Iterator[tuple[int, Message, Any]]:
        """Wait for messages for a while; yield (rank, message, payload), but nothing malformed."""
        ready = dict(self._poller.poll(max(0, int(seconds * 1000))))
        for rank, sock in enumerate(self._sockets):
            for _ in range(MOST_TAKEN if sock in ready else 0):
                try:
                    header, *frames = sock.recv_multipart(zmq.NOBLOCK, copy=False)
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
        for sock in self._sockets:
            if sock in self._poller:
                self._poller.unregister(sock)
            sock.close()
        self._sockets = []


def _address(peer: Peer) -> str:
    return next(each for each in choose(peer.addresses, "auto", str(peer)) if not shares_memory(each))
