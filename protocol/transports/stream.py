"""Stream: between processes of one host and user, by Unix sockets of our own. Tried first where ipc is asked for."""

from __future__ import annotations

import sys

import zmq

from ps.protocol.messages import Identify
from ps.protocol.sockets import Socket
from ps.protocol.transports import unix
from ps.protocol.transports.stream_channel import StreamChannel
from ps.protocol.transports.stream_listener import StreamListener
from ps.protocol.transports.transport import Listening, Place, Sharing


class Stream:
    """Headers and tensors on one socket, without threads between. Only workers come this way."""

    name = "unix"

    def listen(self, place: Place) -> Listening | None:
        """Listen, where the system says whose process is at the other end."""
        if not sys.platform.startswith("linux"):
            return None
        listener = StreamListener(place.directory, place.poller, place.rejected, place.spin, place.most_unread)
        return Listening(listener.address, listener)

    def reaches(self, address: str) -> bool:
        return unix.is_open(address.removeprefix("unix://"))

    def open(self, context: zmq.Context[Socket], address: str, identity: Identify, sharing: Sharing) -> StreamChannel:
        return StreamChannel(address.removeprefix("unix://"), identity)
