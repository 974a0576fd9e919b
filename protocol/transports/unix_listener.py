"""UnixListener: where workers of this host come in on Unix sockets, and who is there: what two ways have in common."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import zmq

from ps.errors import BadMessage, ConfigError, ProtocolError, Unshared
from ps.protocol.codec import encode
from ps.protocol.error_codes import code_of
from ps.protocol.messages import Error, Message
from ps.protocol.spin import Spin
from ps.protocol.transports.listener import Line, Origin
from ps.protocol.transports.unix import new_path
from ps.protocol.unix_channel import demand_same_user

MOST = 1000
"""Connections at once."""

HELD = 0.001
"""Seconds for which answers may wait for others: every one alone would wake its worker, on a core that works."""


def listen(directory: Path, scheme: str = "shm") -> tuple[socket.socket, str]:
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
    return listener, f"{scheme}://{path}"


class _Channel(Protocol):
    """This end of a connection; never blocks."""

    closed: bool

    @property
    def unsent(self) -> bool: ...

    def fileno(self) -> int: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=_Channel)


class UnixConnection(Generic[C]):
    """A worker's channel."""

    __slots__ = ("channel", "fd", "origin", "waits")

    def __init__(self, channel: C, listener: Any, *, lends: bool = False) -> None:
        self.channel = channel
        self.fd = channel.fileno()
        self.origin = Line(listener, lends=lends)
        self.waits = False


P = TypeVar("P", bound="UnixConnection[Any]")


class UnixListener(Generic[P]):
    """The listening end. Like an Inbox it keeps garbage to itself, and counts it."""

    SCHEME = ""

    def __init__(self, directory: Path, poller: zmq.Poller, rejected: Counter[str], spin: Spin) -> None:
        self._listener, self.address = listen(directory, self.SCHEME)
        self._poller = poller
        self._spin = spin
        self._rejected = rejected
        self._by_fd: dict[int, P] = {}
        self._by_origin: dict[Origin, P] = {}
        self._held: dict[Origin, P] = {}
        self._since = 0.0
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        poller.register(self._listener.fileno(), zmq.POLLIN)

    def _take_in(self, sock: socket.socket) -> P:
        """Return a new connection, of one who belongs to this user."""
        raise NotImplementedError

    def _read(self, connection: P) -> Iterator[tuple[Origin, Any, Any]]:
        """Yield what is here from one worker."""
        raise NotImplementedError

    def _put(self, connection: P, header: bytes) -> None:
        """Have a header sent with the next flush."""
        raise NotImplementedError

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._by_origin

    def receive(self, events: Iterable[Any]) -> Iterator[tuple[Origin, Any, Any]]:
        """Yield (origin, message, what came with it) for what the poller found."""
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
        connection = self._take_in(sock)
        self._by_fd[connection.fd] = self._by_origin[connection.origin] = connection
        self._poller.register(connection.fd, zmq.POLLIN)
        self._spin.add(connection.fd)

    def _settle(self, connection: P) -> None:
        """Forget a channel that is closed; watch one that waits for room."""
        if connection.channel.closed:
            if self._by_origin.pop(connection.origin, None) is not None:
                self._poller.unregister(connection.fd)
                self._spin.remove(connection.fd)
                del self._by_fd[connection.fd]
        elif connection.waits != connection.channel.unsent:
            connection.waits = connection.channel.unsent
            self._poller.modify(connection.fd, zmq.POLLIN | (zmq.POLLOUT if connection.waits else 0))

    def reject(self, origin: Origin, request: int, error: ProtocolError) -> None:
        """Count a message that makes no sense and tell its sender why."""
        self._rejected[error.reason] += 1
        self._send(origin, Error(request, code_of(error), str(error)))

    def _send(self, origin: Origin, message: Message) -> None:
        """Answer with the next flush, or at once when answers have been held back for long enough."""
        connection = self._by_origin.get(origin)
        if connection is None:
            return
        if (header := self._written(message)) is None:
            return
        self._put(connection, header)
        self._send_soon(connection)

    def _written(self, message: Message) -> bytes | None:
        """Return a message as it travels; None when nobody could read it, which is counted."""
        try:
            return encode(message)
        except BadMessage:
            self._rejected["unsent"] += 1
            return None

    def _send_soon(self, connection: P) -> None:
        """See that what was put into a channel is sent."""
        now = time.monotonic()
        if not self._held:
            self._since = now
        self._hold(connection)
        if now - self._since > HELD:
            self.flush()

    def _hold(self, connection: P) -> None:
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
