"""StreamDesk: a StreamListener without a server around it, and what its peers do by hand."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import zmq

from ps.protocol.codec import decode
from ps.protocol.messages import Message
from ps.protocol.spin import Spin
from ps.protocol.transports.stream_listener import StreamListener
from ps.protocol.unix_stream import ABSENT


class StreamDesk:
    """A test says when the listener looks, and what it answers."""

    def __init__(self, directory: Path, most_unread: int = 256 << 20) -> None:
        self.poller = zmq.Poller()
        self.rejected: Counter[str] = Counter()
        self.listener = StreamListener(directory, self.poller, self.rejected, Spin(), lambda: most_unread)
        self.path = self.listener.address.removeprefix("unix://")

    def look(self, turns: int = 5) -> list[tuple[Any, Any, Any]]:
        """Do what a server's loop does until nothing is left to do; return what was heard meanwhile."""
        found = []
        for _ in range(turns):
            found += list(self.listener.receive(dict(self.poller.poll(3))))
        return found

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        sock.connect(self.path)
        self.look(2)
        return sock


def streamed(header: bytes, payload: bytes | None = None) -> bytes:
    """Return a message as it travels on a stream."""
    size = ABSENT if payload is None else len(payload)
    return struct.pack("<II", len(header), size) + header + (payload or b"")


def read_streamed(sock: socket.socket) -> tuple[Message, bytes | None]:
    """Return the next message, and its payload."""
    size, nbytes = struct.unpack("<II", _exactly(sock, 8))
    message = decode(_exactly(sock, size))
    return message, None if nbytes == ABSENT else _exactly(sock, nbytes)


def _exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = sock.recv(count - len(found))
        assert piece, "the stream was closed"
        found += piece
    return found
