"""Ipc: between processes of one host, by ZeroMQ."""

from __future__ import annotations

import logging
from pathlib import Path

import zmq

from ps import descriptors
from ps.protocol.descriptor_guard import LEAST
from ps.protocol.guarded_context import guard_ipc
from ps.protocol.messages import Identify
from ps.protocol.sockets import Socket, bind_error, set_buffers
from ps.protocol.transports import unix
from ps.protocol.transports.transport import Listening, Place, Sharing
from ps.protocol.transports.zmq_channel import ZmqChannel

log = logging.getLogger("ps.server")

_UNIX_BUFFER = 2 << 20
"""Bytes of a Unix socket's buffers. Its usual 200 KB make sender and reader wake each other five times per megabyte
(measured: raw, 40 MB one way in 25 ms with the usual size, 10 ms with 1 MB or more)."""


class Ipc:
    """Unix-domain sockets, between processes of one host. The directory is private to its owner."""

    name = "ipc"

    def listen(self, place: Place) -> Listening | None:
        """Listen, where there are files enough for it to be safe."""
        limit = descriptors.allowed()
        if limit < LEAST:
            log.warning(
                "this server may open %d files, too few to offer ipc; it does with %d (ulimit -n)", limit, LEAST
            )
            return None
        address = self.bind(place.router, place.host, 0, place.directory)
        place.guard.guard_file(address)
        return Listening(address)

    def open(self, context: zmq.Context[Socket], address: str, identity: Identify, sharing: Sharing) -> ZmqChannel:
        return ZmqChannel.open(context, self, address, identity)

    def bind(self, sock: Socket, host: str, port: int, directory: Path) -> str:
        path = unix.new_path(directory)
        set_buffers(sock, _UNIX_BUFFER)
        guard_ipc(sock)
        try:
            sock.bind(f"ipc://{path}")
        except zmq.ZMQError as error:
            raise bind_error(error, f"ipc://{path}") from None
        return f"ipc://{path}"

    def connect(self, sock: Socket, address: str, *, probing: bool = False) -> str:
        set_buffers(sock, _UNIX_BUFFER)
        sock.connect(address)
        return ""

    def reaches(self, address: str) -> bool:
        return unix.is_open(address.removeprefix("ipc://"))
