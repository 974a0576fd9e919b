"""BufferChannels: Unix sockets between workers of one host. Over them they hand each other memory, as open files, and
say what lies in it: a header is there in half the time that ZeroMQ takes, whose threads wake each other on the way."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import zmq

from ps.errors import BadMessage, ProtocolError, Unshared
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Introduce, Message, ShareBuffer, SharedTransfer
from ps.protocol.segment import Segment
from ps.protocol.transports.unix_listener import listen
from ps.protocol.unix_channel import UnixChannel, demand_same_user
from ps.worker.pipeline.shared_buffers import AdoptedBuffers, OfferedBuffers

log = logging.getLogger("ps.worker")

MOST = 1000
"""Connections at once."""

Believed = Callable[[Introduce], int | None]
"""Returns the rank of whoever introduces itself so; None for nobody who should be here."""


class BufferChannels:
    """This worker's end of all of them. What goes wrong here is told, and then everything travels."""

    def __init__(self, directory: Path, poller: zmq.Poller, believed: Believed) -> None:
        """Listen, where there is memory that can be shared without a name."""
        self._poller, self._believed = poller, believed
        self._listener: socket.socket | None = None
        self.address = ""
        """Nothing where there is no such memory."""
        self._open: dict[int, UnixChannel] = {}
        """All channels, by descriptor."""
        self._senders: dict[int, int | None] = {}
        """By descriptor, the rank of whoever has connected to this worker; None before it has introduced itself."""
        self._held: dict[int, list[Message]] = {}
        """By descriptor, what those say of whom this worker has not heard yet: they take the place of one that is gone.
        They are read no further."""
        self._late: list[tuple[int, SharedTransfer]] = []
        """What of that is to be taken now."""
        self._outgoing: dict[int, UnixChannel] = {}
        self._incoming: dict[int, UnixChannel] = {}
        self._adopted: dict[int, AdoptedBuffers] = {}
        """All three by rank."""
        if sys.platform.startswith("linux"):
            self._listener, self.address = listen(directory)
            poller.register(self._listener.fileno(), zmq.POLLIN)

    def offer(self, rank: int, address: str, introduction: Introduce) -> OfferedBuffers:
        """Connect to another worker; return the buffers for what is sent there. Raises Unshared, which says why."""
        channel = UnixChannel.connect(address.removeprefix("shm://"))
        self._outgoing[rank] = channel
        self._watch(channel)
        self._send(channel, encode(introduction))

        def hand(number: int, size: int, segment: Segment | None) -> bool:
            message = ShareBuffer(introduction.member, number, size)
            return self._send(channel, encode(message), [] if segment is None else [segment.fd])

        return OfferedBuffers(f"worker {rank}", hand)

    def part_from(self, rank: int) -> None:
        """End what there is to a worker, if there is anything; memory that is still used stays."""
        for channels in (self._outgoing, self._incoming):
            if (channel := channels.pop(rank, None)) is not None:
                channel.close()
        self._adopted.pop(rank, None)
        self._settle()

    def meet(self) -> None:
        """Look again at who was not known, since others may be there now."""
        held, self._held = self._held, {}
        for number, messages in held.items():
            self._poller.register(number, zmq.POLLIN)
            self._hear(number, messages, self._late)
        self._settle()

    def buffers(self, rank: int) -> AdoptedBuffers:
        """Return what another worker has shared with this one, also if its channel is closed by now. Raises BadMessage
        when that is nothing."""
        if rank not in self._adopted:
            raise BadMessage("a buffer, where none was shared")
        return self._adopted[rank]

    def send(self, rank: int, message: Message) -> bool:
        """Send a header to another worker; False: not here, or not now."""
        channel = self._outgoing.get(rank)
        return channel is not None and self._send(channel, encode(message))

    def reply(self, rank: int, message: Message) -> bool:
        """Answer another worker where it sends; False: not here, or not now."""
        channel = self._incoming.get(rank)
        return channel is not None and self._send(channel, encode(message))

    def receive(self, ready: Container[object]) -> Iterator[tuple[int, SharedTransfer]]:
        """Take what has come on those descriptors that are ready; yield what others send, with their ranks."""
        for channel in [each for each in self._open.values() if each.unsent]:
            channel.flush()
        if self._listener is not None and self._listener.fileno() in ready:
            self._accept(self._listener)
        for number in [number for number in self._senders if number in ready]:
            self._hear(number, map(decode, self._open[number].receive()), self._late)
        self._settle()
        late, self._late = self._late, []
        yield from late

    def _hear(self, number: int, messages: Iterable[Message], found: list[tuple[int, SharedTransfer]]) -> None:
        """Take what somebody says, and note what is for others to take."""
        try:
            for message in messages:
                if number in self._held:
                    self._held[number].append(message)
                elif (transfer := self._take(number, message)) is not None:
                    found.append((cast("int", self._senders[number]), transfer))
        except ProtocolError as error:
            log.warning("a worker shares no more memory with this one: %s", str(error))  # not the frames it is from
            self._open[number].close()

    def answers(self, ready: Container[object]) -> Iterator[tuple[int, Message]]:
        """Yield what others answer, with their ranks. Raises ProtocolError for what makes no sense."""
        found = {number: rank for rank, each in self._outgoing.items() if (number := each.fileno()) in ready}
        for number, rank in found.items():
            for header in self._open[number].receive():
                yield rank, decode(header)
        self._settle()

    def _send(self, channel: UnixChannel, header: bytes, files: Sequence[int] = ()) -> bool:
        channel.flush()
        going = not (channel.closed or channel.unsent)
        if going:
            channel.send(header, files)
        if channel.closed:
            self._settle()
        return going and not channel.closed and not (files and channel.unsent)

    def _watch(self, channel: UnixChannel) -> None:
        self._open[channel.fileno()] = channel
        self._poller.register(channel.fileno(), zmq.POLLIN)

    def _settle(self) -> None:
        """Forget the channels that are closed."""
        for number in [number for number, channel in self._open.items() if channel.closed]:
            if self._held.pop(number, None) is None:
                self._poller.unregister(number)
            del self._open[number]
            self._senders.pop(number, None)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            try:
                demand_same_user(sock)
            except Unshared:
                sock.close()
                return
            if len(self._senders) >= MOST:
                sock.close()
                return
            channel = UnixChannel(sock)
            channel.expects_fds = True
            self._watch(channel)
            self._senders[channel.fileno()] = None

    def _take(self, number: int, message: Message) -> SharedTransfer | None:
        """Take a message, or return it. Raises BadMessage. A buffer that cannot be mapped here is not used, and that is
        told."""
        rank, channel = self._senders[number], self._open[number]
        if rank is None:
            if not isinstance(message, Introduce):
                raise BadMessage(f"{message!r} of nobody knows whom: Introduce first")
            rank = self._believed(message)
            if rank is None:
                self._held[number] = [message]
                self._poller.unregister(number)
                return None
            self._senders[number], self._incoming[rank] = rank, channel
            self._adopted[rank] = AdoptedBuffers()
        elif isinstance(message, ShareBuffer) and not message.nbytes:
            self._adopted[rank].forget(message.buffer)
        elif isinstance(message, ShareBuffer):
            self._adopt(rank, message, channel.take_fds())
        elif isinstance(message, SharedTransfer):
            return message
        else:
            raise BadMessage(f"{message!r} of worker {rank}, where headers of transfers and memory come")
        return None

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
        for channel in self._open.values():
            channel.close()
        self._settle()
        if self._listener is not None:
            self._listener.close()
