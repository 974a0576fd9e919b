"""BufferChannels: where workers of one host hand each other the memory of buffers, as open files over Unix sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Container
from pathlib import Path

import zmq

from ps.errors import BadMessage, ProtocolError, Unshared
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Introduce, ShareBuffer
from ps.protocol.segment import Segment
from ps.protocol.transports.shm_listener import listen
from ps.protocol.unix_channel import UnixChannel, demand_same_user
from ps.worker.pipeline.shared_buffers import AdoptedBuffers, OfferedBuffers

log = logging.getLogger("ps.worker")

MOST = 1000
"""Connections at once."""

Believed = Callable[[Introduce], int | None]
"""Returns the rank of whoever introduces itself so; None for nobody who should be here."""


class _Comer:
    """Somebody who has connected, and has or has not said who it is."""

    __slots__ = ("channel", "rank")

    def __init__(self, channel: UnixChannel) -> None:
        self.channel = channel
        self.channel.expects_fds = True
        self.rank: int | None = None


class BufferChannels:
    """This worker's end of all of them. What goes wrong here is told, and then everything travels."""

    def __init__(self, directory: Path, poller: zmq.Poller, believed: Believed) -> None:
        """Listen, where there is memory that can be shared without a name."""
        self._poller, self._believed = poller, believed
        self._listener: socket.socket | None = None
        self.address = ""
        """Nothing where there is no such memory."""
        self._comers: dict[int, _Comer] = {}
        """By descriptor."""
        self._adopted: dict[int, AdoptedBuffers] = {}
        self._outgoing: dict[int, UnixChannel] = {}
        """Both by rank."""
        if sys.platform.startswith("linux"):
            self._listener, self.address = listen(directory)
            poller.register(self._listener.fileno(), zmq.POLLIN)

    def offer(self, rank: int, address: str, introduction: Introduce) -> OfferedBuffers:
        """Connect to another worker; return the buffers for what is sent there. Raises Unshared, which says why."""
        channel = UnixChannel.connect(address.removeprefix("shm://"))
        channel.send(encode(introduction))
        if (before := self._outgoing.pop(rank, None)) is not None:
            before.close()
        self._outgoing[rank] = channel

        def hand(number: int, size: int, segment: Segment | None) -> bool:
            if not (channel.closed or channel.unsent):
                message = ShareBuffer(introduction.member, number, size)
                channel.send(encode(message), [] if segment is None else [segment.fd])
            return not (channel.closed or channel.unsent)

        return OfferedBuffers(f"worker {rank}", hand)

    def buffers(self, rank: int) -> AdoptedBuffers:
        """Return what another worker has shared with this one, also if its channel is closed by now. Raises BadMessage
        when that is nothing."""
        if rank not in self._adopted:
            raise BadMessage("a buffer, where none was shared")
        return self._adopted[rank]

    def look(self, ready: Container[object]) -> None:
        """Take what has come on those descriptors that are ready."""
        if self._listener is not None and self._listener.fileno() in ready:
            self._accept(self._listener)
        for number in [number for number in self._comers if number in ready]:
            comer = self._comers[number]
            try:
                for header in comer.channel.receive():
                    self._take(comer, header)
            except ProtocolError as error:
                log.warning("a worker shares no more memory with this one: %s", str(error))  # not the frames it is from
                comer.channel.close()
            if comer.channel.closed:
                self._poller.unregister(number)
                del self._comers[number]

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            try:
                demand_same_user(sock)
            except Unshared:
                sock.close()
                return
            if len(self._comers) >= MOST:
                sock.close()
                return
            comer = _Comer(UnixChannel(sock))
            self._comers[comer.channel.fileno()] = comer
            self._poller.register(comer.channel.fileno(), zmq.POLLIN)

    def _take(self, comer: _Comer, header: bytes) -> None:
        """Take a message. Raises BadMessage. A buffer that cannot be mapped here is not used, and that is told."""
        message = decode(header)
        if isinstance(message, Introduce) and comer.rank is None:
            comer.rank = self._believed(message)
            if comer.rank is None:
                raise BadMessage("this does not prove that it is a worker of this pipeline")
            self._adopted[comer.rank] = AdoptedBuffers()
        elif isinstance(message, ShareBuffer) and comer.rank is not None:
            if message.nbytes:
                self._adopt(comer.rank, message, comer.channel.take_fds())
            else:
                self._adopted[comer.rank].forget(message.buffer)
        else:
            raise BadMessage(f"{message!r}, of worker {comer.rank}")

    def _adopt(self, rank: int, message: ShareBuffer, given: list[int]) -> None:
        try:
            if len(given) != 1:
                raise BadMessage(f"{message!r} with {len(given)} open files")
            segment = Segment.adopt(given.pop(), message.nbytes)
            self._adopted[rank].adopt(message.buffer, message.nbytes, segment)
        except Unshared as error:
            log.warning("worker %d: %s. What has no room travels", rank, error)
        finally:
            for number in given:
                os.close(number)

    def close(self) -> None:
        """Close everything; memory that is still used stays."""
        for comer in self._comers.values():
            comer.channel.close()
        for channel in self._outgoing.values():
            channel.close()
        if self._listener is not None:
            self._listener.close()
