"""Tcp: between any two hosts, by ZeroMQ."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import zmq

from ps.loopback import is_loopback
from ps.protocol.addresses import reachable_host, split_key
from ps.protocol.dial import look
from ps.protocol.guarded_context import aim, guard_tcp
from ps.protocol.messages import Identify
from ps.protocol.sockets import Socket, bind_error, set_buffers
from ps.protocol.transports.free_port import draw_ports
from ps.protocol.transports.transport import Listening, Place, Sharing
from ps.protocol.transports.zmq_channel import ZmqChannel

_SYSTEM = -1
"""Leave a socket's buffers to the system: TCP's grow as needed, and any fixed size was slower."""

BACKLOG = 1000
"""Connections that wait to be taken. Who finds no place among them comes again after a second, and then after three."""


class Tcp:
    """TCP, between any two hosts."""

    name = "tcp"

    def listen(self, place: Place) -> Listening:
        return Listening(self.bind(place.router, place.host, place.port, place.directory))

    def open(self, context: zmq.Context[Socket], address: str, identity: Identify, sharing: Sharing) -> ZmqChannel:
        return ZmqChannel.open(context, self, address, identity)

    def bind(self, sock: Socket, host: str, port: int, directory: Path) -> str:
        interface = f"[{host}]" if ":" in host else host
        set_buffers(sock, _SYSTEM)
        few = sock.getsockopt(zmq.BACKLOG)
        sock.setsockopt(zmq.BACKLOG, BACKLOG)
        guard_tcp(sock, host)
        try:
            if port:
                sock.bind(f"tcp://{interface}:{port}")
            else:
                _bind_free(sock, f"tcp://{interface}", () if is_loopback(host, resolve=True) else draw_ports())
        except zmq.ZMQError as error:
            raise bind_error(error, f"tcp://{interface}:{port}") from None
        finally:
            sock.setsockopt(zmq.BACKLOG, few)  # ipc has to have few: see ``descriptor_guard``
        bound = str(sock.getsockopt_string(zmq.LAST_ENDPOINT)).rpartition(":")[2]
        return f"tcp://{reachable_host(host)}:{bound}"

    def connect(self, sock: Socket, address: str, *, probing: bool = False) -> str:
        """Connect; return why nobody is reached there, as far as that is known: a name is looked up once for both.

        Raises KeyRefused for an address without a key where this process has some.
        """
        address, key = split_key(address)
        aim(sock, key, address)
        route = look(address, probing=probing)
        set_buffers(sock, _SYSTEM)
        sock.setsockopt(zmq.IPV6, int(route.ipv6))
        sock.connect(address)
        return route.trouble

    def reaches(self, address: str) -> bool:
        return True


def _bind_free(sock: Socket, interface: str, drawn: Iterable[int]) -> None:
    """Listen on the first of the ports that is free, or on one of the system's."""
    for port in drawn:
        try:
            sock.bind(f"{interface}:{port}")
            return
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EADDRINUSE, errno.EACCES):
                raise
    sock.bind(f"{interface}:*")
