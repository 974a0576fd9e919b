"""ServerLines: the ways from this server to the job's other servers, of which each is opened when something is said.

A line goes one way: what the other one has to say comes on a line of its own. It begins with Introduce, by whose token
the other one sees that this is a server of the job: only those have the job's secret. What is lost is said again by
whoever needs it; of what is not read no more is kept than a bound.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import zmq

from ps.dataclass import dataclass
from ps.errors import ProtocolError, PSError
from ps.protocol.codec import decode, encode
from ps.protocol.incoming import Incoming
from ps.protocol.membership import Peer, peers
from ps.protocol.messages import Error, Introduce, Message, View
from ps.protocol.sockets import Socket, open_socket
from ps.protocol.transports.registry import choose, connect, is_for_all
from ps.protocol.unread import Unread
from ps.server.job_key import JobKey
from ps.xp import HostArray

log = logging.getLogger("ps.server")

MOST_UNREAD = 256 << 20
"""Bytes of payloads that are kept for a server which does not read them, at most."""
MOST_TAKEN = 100
"""Messages that are taken from one line at a time: nothing comes there but complaints."""


@dataclass(slots=True, eq=False)
class ServerLine:
    """A socket that is connected to another server."""

    socket: Socket
    incoming: Incoming
    introduction: bytes


class ServerLines:
    """By the members' ids. Belongs to the server's one thread."""

    def __init__(self, context: zmq.Context[Socket], poller: zmq.Poller) -> None:
        self._context = context
        self._poller = poller
        self._own = 0
        self._key: JobKey | None = None
        self._peers: dict[int, Peer] = {}
        self._lines: dict[int, ServerLine] = {}
        self._unread = Unread()

    def view(self, view: View, own: int, key: JobKey) -> None:
        """Learn where the other servers are; the lines to those that are gone are closed."""
        self._own, self._key = own, key
        self._peers = {peer.member: peer for peer in peers(view) if peer.role == "server" and peer.member != own}
        for member in self._lines.keys() - self._peers.keys():
            self._close(self._lines.pop(member))

    def send(self, member: int, header: bytes, payload: HostArray | None = None) -> bool:
        """Say something to a server, with the bytes of ``payload``, which are copied; return whether it got away."""
        line = self._lines.get(member) or self._open(member)
        if line is None:
            return False
        self._hear(line)
        name = str(member).encode()
        if payload is not None and self._unread.left(name) + payload.nbytes > MOST_UNREAD:
            return False
        try:
            line.socket.send(header, zmq.NOBLOCK | (zmq.SNDMORE if payload is not None else 0))
        except zmq.Again:
            return False
        if payload is not None:
            tracker: Any = line.socket.send(payload.tobytes(), copy=False, track=True)
            self._unread.lend(name, tracker, payload.nbytes)
        return True

    def receive(self, events: dict[Any, int]) -> None:
        """Take what the poller found on the lines."""
        for line in self._lines.values():
            if line.socket in events:
                self._hear(line)

    def tick(self) -> None:
        """Look after the connections; to be called some times a second."""
        for line in self._lines.values():
            line.incoming.look()

    def _open(self, member: int) -> ServerLine | None:
        peer, key = self._peers.get(member), self._key
        if peer is None or key is None:
            return None
        sock = open_socket(self._context, zmq.DEALER)
        incoming = Incoming(sock, str(peer))  # before it connects
        introduction = encode(Introduce(0, self._own, key.line(self._own, member)))
        line = ServerLine(sock, incoming, introduction)
        try:
            ways = [way for way in choose(peer.addresses, "auto", str(peer)) if is_for_all(way)]
            connect(sock, ways[0])
        except (PSError, zmq.ZMQError, IndexError) as error:
            log.warning("%s cannot be reached from here: %s", peer, error)
            incoming.close()
            sock.close()
            return None
        sock.send(introduction, zmq.NOBLOCK)
        self._poller.register(sock, zmq.POLLIN)
        self._lines[member] = line
        return line

    def _hear(self, line: ServerLine) -> None:
        """Say again who this is where that is not known, as after the connection was made anew."""
        with contextlib.suppress(zmq.Again):
            for _ in range(MOST_TAKEN):
                header = line.incoming.receive()
                with contextlib.suppress(ProtocolError):
                    answer: Message = decode(header)
                    if isinstance(answer, Error) and answer.code == "stranger":
                        line.socket.send(line.introduction, zmq.NOBLOCK)

    def _close(self, line: ServerLine) -> None:
        self._poller.unregister(line.socket)
        line.incoming.close()
        line.socket.close()

    def close(self) -> None:
        """Close all lines; what was not sent is dropped."""
        for line in self._lines.values():
            self._close(line)
        self._lines.clear()
