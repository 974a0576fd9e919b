"""Desk: a ShmListener without a server around it, and what its peers do by hand."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from ps.protocol.codec import decode, encode
from ps.protocol.layout import Layout
from ps.protocol.messages import Message, Push, Share
from ps.protocol.segment import PAGE, Segment
from ps.protocol.spin import Spin
from ps.protocol.transports.shm_listener import ShmListener
from ps.protocol.worker_memory import WorkerMemory
from ps.threads import ThreadTeam
from ps.xp import HostArray

NBYTES = 2 * PAGE
LAYOUT = Layout.of({"w": np.zeros(NBYTES // 4, np.float32)})
[CHUNK] = LAYOUT.chunks(1, NBYTES)
PUSH = encode(Push(7, 1, 0, 0, 0, 1.0, 1.0, True))


class Desk:
    """ShmListener without a server around them: a test says when they look, and what they answer."""

    def __init__(self, directory: Path) -> None:
        self.poller = zmq.Poller()
        self.team = ThreadTeam()
        self.rejected: Counter[str] = Counter()
        self.listener = ShmListener(directory, self.poller, self.rejected, Spin(), self.copy)
        self.heard: list[tuple[bytes, Any, WorkerMemory | None]] = []
        self.kept: HostArray | None = None

    def copy(self, into: HostArray, weights: HostArray) -> None:
        self.team.copy(into, weights)

    def look(self, turns: int = 5) -> list[tuple[bytes, Any, WorkerMemory | None]]:
        """Do what a server's loop does until nothing is left to do; return what was heard meanwhile."""
        before = len(self.heard)
        for _ in range(turns):
            events = dict(self.poller.poll(3))
            for origin, message, memory in self.listener.receive(events):
                if isinstance(message, Share):
                    self.listener.share(origin, message, self.weights_memory)
                else:
                    self.heard.append((origin, message, memory))
        return self.heard[before:]

    def weights_memory(self, offered: HostArray | None) -> HostArray | None:
        self.kept = self.kept if offered is None else offered
        return self.kept

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(10)
        sock.connect(self.listener.address.removeprefix("shm://"))
        return sock

    def share(self, sock: socket.socket, nbytes: int = NBYTES, weights: Segment | None = None) -> WorkerMemory:
        """Share memory as a worker does."""
        memory = WorkerMemory.create(nbytes)
        fds = [memory.segment.fd, *([weights.fd] if weights else [])]
        socket.send_fds(sock, [framed(encode(Share(3, 7, nbytes, weights is not None)))], fds)
        self.look()
        return memory


def framed(*headers: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(header)) + header for header in headers)


def read(sock: socket.socket) -> tuple[Message, list[int]]:
    """Return the next message, and the open files that came with it."""
    head, fds, _, _ = socket.recv_fds(sock, 4, 4)
    assert len(head) == 4, "the channel was closed"
    body = b""
    while len(body) < struct.unpack("<I", head)[0]:
        body += sock.recv(struct.unpack("<I", head)[0] - len(body))
    return decode(body), list(fds)


def told(sock: socket.socket) -> Message:
    message, fds = read(sock)
    assert not fds
    return message


def is_closed(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        while sock.recv(1 << 20):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True
