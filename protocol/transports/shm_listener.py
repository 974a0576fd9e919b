"""ShmListener: where workers of this host that share memory come in. Only headers travel, on Unix sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import zmq

from ps.errors import BadMessage, ConfigError, ProtocolError, Unshared
from ps.protocol.codec import decode, encode
from ps.protocol.error_codes import code_of
from ps.protocol.layout import Chunk
from ps.protocol.messages import Error, Message, Share, Shared, SharePart
from ps.protocol.segment import Segment
from ps.protocol.spin import Spin
from ps.protocol.transports.listener import Line, Origin, WeightsMemory
from ps.protocol.transports.transport import Copy
from ps.protocol.transports.unix import new_path
from ps.protocol.unix_channel import UnixChannel, demand_same_user
from ps.protocol.worker_memory import WorkerMemory
from ps.xp import HostArray

MOST = 1000
"""Connections at once."""

HELD = 0.001
"""Seconds for which answers may wait for others: every one alone would wake its worker, on a core that works."""


def listen(directory: Path) -> tuple[socket.socket, str]:
    """Return a socket on which channels come in, and its address. Raises ConfigError."""
    path = new_path(directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {path}: {error.strerror}; --runtime-dir must be writable") from None
    listener.setblocking(False)
    return listener, f"shm://{path}"


class _Connection:
    """A worker's channel and what it shares."""

    __slots__ = ("channel", "fd", "memory", "origin", "waits")

    def __init__(self, channel: UnixChannel, listener: ShmListener) -> None:
        self.channel = channel
        self.fd = channel.fileno()
        self.origin = Line(listener)
        self.waits = False
        self.memory: WorkerMemory | None = None


class ShmListener:
    """The listening end for workers that share memory. Like an Inbox it keeps garbage to itself, and counts it."""

    def __init__(self, directory: Path, poller: zmq.Poller, rejected: Counter[str], spin: Spin, copy: Copy) -> None:
        self._listener, self.address = listen(directory)
        self._poller = poller
        self._spin = spin
        self._copy = copy
        self._rejected = rejected
        self._by_fd: dict[int, _Connection] = {}
        self._by_origin: dict[Origin, _Connection] = {}
        self._held: dict[Origin, _Connection] = {}
        self._since = 0.0
        self._weights_memory: tuple[Segment, HostArray] | None = None
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        poller.register(self._listener.fileno(), zmq.POLLIN)

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._by_origin

    def receive(self, events: Iterable[Any]) -> Iterator[tuple[Origin, Any, WorkerMemory | None]]:
        """Yield (origin, message, the worker's memory) for what the poller found."""
        for fd in events:
            if fd == self._listener.fileno():
                self._accept()
            elif (connection := self._by_fd.get(fd)) is not None:
                yield from self._read(connection)
                self._hold(connection)
        self.flush()

    def cut(self, line: Line) -> None:
        """End a line, if it is still there; what was answered before gets away."""
        connection = self._by_origin.get(line)
        if connection is not None:
            connection.channel.flush()
            connection.channel.close()
            self._held.pop(line, None)
            self._settle(connection)

    def flush(self) -> None:
        """Send the answers that were held back for a moment, and see whose channel is closed or has no room."""
        held, self._held = self._held, {}
        for connection in held.values():
            connection.channel.flush()
            self._settle(connection)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                self._turn_away()
                return
            self._welcome(sock)

    def _turn_away(self) -> None:
        """Close a connection that no descriptor is left for, with the one that is kept for this.

        Otherwise it would be waiting, and this process awake, until there is one.
        """
        os.close(self._spare)
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _welcome(self, sock: socket.socket) -> None:
        try:
            demand_same_user(sock)
        except (Unshared, OSError):
            sock.close()
            return
        if len(self._by_fd) >= MOST:
            sock.close()
            return
        connection = _Connection(UnixChannel(sock), self)
        connection.channel.expects_fds = True
        self._by_fd[connection.fd] = self._by_origin[connection.origin] = connection
        self._poller.register(connection.fd, zmq.POLLIN)
        self._spin.add(connection.fd)

    def _read(self, connection: _Connection) -> Iterator[tuple[Origin, Any, WorkerMemory | None]]:
        try:
            for header in connection.channel.receive():
                try:
                    message = decode(header)
                    if message.payload and connection.memory is None:
                        raise BadMessage(f"{type(message).__name__} for memory that was not shared")
                except ProtocolError as error:
                    self.reject(connection.origin, 0, error)
                    continue
                if isinstance(message, Error):
                    self._rejected["error"] += 1
                    continue
                yield connection.origin, message, connection.memory
        except BadMessage:  # not even a frame: there is no telling where the next one begins
            self._rejected["frames"] += 1

    def _settle(self, connection: _Connection) -> None:
        """Forget a channel that is closed; watch one that waits for room."""
        if connection.channel.closed:
            if self._by_origin.pop(connection.origin, None) is not None:
                self._poller.unregister(connection.fd)
                self._spin.remove(connection.fd)
                del self._by_fd[connection.fd]
        elif connection.waits != connection.channel.unsent:
            connection.waits = connection.channel.unsent
            self._poller.modify(connection.fd, zmq.POLLIN | (zmq.POLLOUT if connection.waits else 0))

    def share(self, origin: Origin, message: Share | SharePart, weights_memory: WeightsMemory) -> None:
        """Map the memory that a worker hands over, and hand over what the weights are kept in."""
        connection = self._by_origin.get(origin)
        if connection is None:
            return
        fds = connection.channel.take_fds()
        try:
            weights = isinstance(message, Share) and message.weights
            if len(fds) != 1 + weights or not message.nbytes > 0:
                raise BadMessage(f"{message!r} with {len(fds)} open files")
            segment = Segment.adopt(fds.pop(0), WorkerMemory.size(message.nbytes))
            offered = Segment.adopt(fds.pop(0), message.nbytes) if weights else None
            if isinstance(message, SharePart):
                memory, shared = WorkerMemory(segment, message.nbytes, message.sections), None
            else:
                memory = WorkerMemory(segment, message.nbytes)
                shared = self._keep_weights_in(offered, message.nbytes, weights_memory)
        except (BadMessage, Unshared) as error:
            self._rejected["shm"] += 1
            self._send(origin, Error(message.request, "shm", str(error)))
            return
        finally:
            for fd in fds:
                os.close(fd)
        connection.memory = memory
        connection.channel.expects_fds = False
        connection.channel.send(encode(Shared(message.request, shared is not None)), [shared.fd] if shared else [])
        self._settle(connection)

    def keep_weights_in(self, segment: Segment, array: HostArray) -> None:
        """Hand this memory over to all who come, as that in which the weights are kept; ``array`` is all of it."""
        self._weights_memory = segment, array

    def _keep_weights_in(self, offered: Segment | None, nbytes: int, weights_memory: WeightsMemory) -> Segment | None:
        if offered is not None:
            array = offered.array(0, nbytes)
            if weights_memory(array) is array:
                self._weights_memory = offered, array
        if self._weights_memory is None or weights_memory(None) is not self._weights_memory[1]:
            return None
        return self._weights_memory[0]

    def reject(self, origin: Origin, request: int, error: ProtocolError) -> None:
        """Count a message that makes no sense and tell its sender why."""
        self._rejected[error.reason] += 1
        self._send(origin, Error(request, code_of(error), str(error)))

    def perform(
        self, line: Line, message: Message, weights: HostArray | None, chunk: Chunk | None, *, aside: bool
    ) -> None:
        """Answer a worker; weights are put into its memory first."""
        connection = self._by_origin[line]
        if weights is not None and chunk is not None:
            try:
                if connection.memory is None:
                    raise BadMessage("weights for memory that was not shared")
                place = connection.memory.part("aside" if aside else "weights", chunk)
            except BadMessage as error:
                self.reject(line, getattr(message, "request", 0), error)
                return
            self._copy(place, weights)
        if isinstance(message, Error):
            self._rejected[message.code] += 1
        self._send(line, message)

    def _send(self, origin: Origin, message: Message) -> None:
        """Answer with the next flush, or at once when answers have been held back for long enough."""
        connection = self._by_origin.get(origin)
        if connection is None:
            return
        try:
            header = encode(message)
        except BadMessage:
            self._rejected["unsent"] += 1
            return
        connection.channel.put(header)
        now = time.monotonic()
        if not self._held:
            self._since = now
        self._hold(connection)
        if now - self._since > HELD:
            self.flush()

    def _hold(self, connection: _Connection) -> None:
        """Look after a channel with the next flush; at once when it is closed, for the next may get its descriptor."""
        if connection.channel.closed:
            self._settle(connection)
        else:
            self._held[connection.origin] = connection

    def close(self) -> None:
        """Close everything; the workers' memory stays theirs."""
        self._listener.close()
        os.close(self._spare)
        for connection in self._by_fd.values():
            connection.channel.close()
