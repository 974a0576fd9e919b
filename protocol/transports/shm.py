"""Shm: memory that processes of one host and user share: tensors lie in it, headers use a ``UnixChannel``."""

from __future__ import annotations

import sys

import zmq

from ps.errors import Unshared
from ps.protocol.messages import Identify
from ps.protocol.sockets import Socket
from ps.protocol.transports import unix
from ps.protocol.transports.shm_channel import ShmChannel
from ps.protocol.transports.shm_listener import ShmListener
from ps.protocol.transports.transport import Listening, Place, Sharing


class Shm:
    """A server maps the memory that a worker hands over through its Unix socket."""

    name = "shm"

    def listen(self, place: Place) -> Listening | None:
        """Listen, where there is memory that can be shared without a name."""
        if not sys.platform.startswith("linux"):
            return None
        listener = ShmListener(place.directory, place.poller, place.rejected, place.spin, place.copy)
        return Listening(listener.address, listener)

    def reaches(self, address: str) -> bool:
        return unix.is_open(address.removeprefix("shm://"))

    def open(self, context: zmq.Context[Socket], address: str, identity: Identify, sharing: Sharing) -> ShmChannel:
        if sharing.memory is None:
            raise Unshared(sharing.lack)
        least = 1 if sharing.apart else sharing.memory.nbytes
        return ShmChannel.open(address.removeprefix("shm://"), sharing.memory, sharing.weights, identity, least)
