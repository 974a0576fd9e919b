"""UnixStream: headers and payloads between two processes of one host, over a Unix socket.

A frame is the length of the header and that of the payload, four bytes each, little-endian, then the header and the
payload; the second length is ``ABSENT`` where there is none. Whoever needs what comes reads it on its own thread:
ZeroMQ's threads wake each other up on the way (measured: a step of 40 KB in two thirds of the time, and of 40 MB with
a tenth to a quarter less of the processors' time).
"""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ps.errors import BadMessage
from ps.protocol.codec import MAX_FRAME, MAX_HEADER
from ps.protocol.unix_channel import dialled

BUFFER = 4 << 20
"""Bytes of a socket's buffers, as far as the system gives them: a chunk should find room at once."""
MAX_UNSENT = 16 << 20
"""Bytes of headers kept for a peer that does not read; beyond that the stream is closed."""
SMALL = 1 << 20
"""Bytes of a model that is exchanged fast whatever the buffers."""
LARGE_BUFFER = 2 << 20
"""Bytes that the system has to allow for buffers where a model is not small: else the two ends wake each other for each
bit of a chunk, and take turns (measured: 40 MB with buffers of 400 KB in half again the time of ZeroMQ)."""
LIMIT = Path("/proc/sys/net/core/wmem_max")
ABSENT = 0xFFFFFFFF
_READ = 64 << 10
"""Bytes that are read where it is not known what comes: headers, and with them the payloads of small models."""
_MOST_READ = 8 << 20
"""Bytes that are read before others are looked after."""
_MOST_PARTS = 64
"""Pieces that one call hands to the system."""
_SIZES = struct.Struct("<II")

Room = Callable[[int], Any]
"""Returns writable memory, of so many bytes, for the payload that comes. Raises BadMessage where there is none."""


class Sending:
    """A payload on its way; ``done`` once this process has nothing to do with it any more."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False


def new_room(nbytes: int) -> Any:
    """Return memory that nobody else has."""
    return np.empty(nbytes, np.uint8)


def is_fast_for(nbytes: int) -> bool:
    """Whether a model of so many bytes is exchanged faster by streams than by ZeroMQ here."""
    if nbytes <= SMALL:
        return True
    try:
        return int(LIMIT.read_text()) >= LARGE_BUFFER
    except (OSError, ValueError):
        return False


class UnixStream:
    """One end of a connection. Never blocks."""

    def __init__(self, sock: socket.socket, room: Room = new_room) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self._sock = sock
        self._room = room
        self._got = b""
        """What came of a frame whose header is not whole."""
        self._header: bytes | None = None
        """That of the payload under way."""
        self._payload = memoryview(b"")
        self._filled = 0
        self.began = 0.0
        """When the payload under way began to come (monotonic)."""
        self._unsent: deque[tuple[memoryview, Sending | None]] = deque()
        self._unsent_headers = 0
        self.unsent_payload = 0
        """Bytes of payloads that wait for room."""
        self.closed = False

    @classmethod
    def connect(cls, path: str, room: Room = new_room) -> UnixStream:
        """Connect to a process that listens there. Raises Unshared when it does not, or belongs to another user."""
        return cls(dialled(path), room)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._sock.fileno()

    @property
    def unsent(self) -> bool:
        """Whether something waits for room; ``flush`` sends it when the descriptor is writable."""
        return bool(self._unsent)

    @property
    def awaited(self) -> int:
        """Bytes of the payload under way; 0 where none is."""
        return self._payload.nbytes

    def put(self, header: bytes, payload: Any = None) -> Sending | None:
        """Have a message sent with the next ``flush``; return what knows when its payload is free to change.

        None where there is no payload, or the stream is closed.
        """
        if self.closed:
            return None
        sending = None
        if payload is None:
            self._unsent.append((memoryview(_SIZES.pack(len(header), ABSENT) + header), None))
        else:
            view, sending = memoryview(payload).cast("B"), Sending()
            self._unsent.append((memoryview(_SIZES.pack(len(header), view.nbytes) + header), None))
            self._unsent.append((view, sending))
            self.unsent_payload += view.nbytes
        self._unsent_headers += _SIZES.size + len(header)
        if self._unsent_headers > MAX_UNSENT:
            self.close()
        return sending

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        unsent = self._unsent
        while unsent:
            try:
                sent = self._sock.sendmsg([part for part, _ in islice(unsent, _MOST_PARTS)])
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            while unsent and sent >= unsent[0][0].nbytes:
                part, sending = unsent.popleft()
                sent -= part.nbytes
                self._count_sent(part.nbytes, sending)
                if sending is not None:
                    sending.done = True
            if sent:
                part, sending = unsent[0]
                unsent[0] = part[sent:], sending
                self._count_sent(sent, sending)

    def _count_sent(self, nbytes: int, sending: Sending | None) -> None:
        if sending is None:
            self._unsent_headers -= nbytes
        else:
            self.unsent_payload -= nbytes

    def receive(self) -> Iterator[tuple[bytes, memoryview | None]]:
        """Yield the messages that are here, not for ever if more keep coming. Once the peer is gone it is closed.

        Raises BadMessage for what is no frame, or has no room; the stream is closed then, too.
        """
        left = _MOST_READ
        while left > 0 and not self.closed:
            if self._header is None:
                data = self._read()
                if not data:
                    return
                left -= len(data)
                yield from self._messages(self._got + data if self._got else data)
                if self._header is None and len(data) < _READ:
                    return
                continue
            count = self._fill()
            if not count:
                return
            left -= count
            if self._filled == self._payload.nbytes:
                header, payload = self._header, self._payload
                self._header, self._payload = None, memoryview(b"")
                yield header, payload

    def _messages(self, data: bytes) -> Iterator[tuple[bytes, memoryview | None]]:
        """Yield what is whole; keep what is not."""
        at, end, self._got = 0, len(data), b""
        while end - at >= _SIZES.size and not self.closed:
            size, nbytes = _SIZES.unpack_from(data, at)
            if size > MAX_HEADER or (nbytes != ABSENT and nbytes > MAX_FRAME):
                self.close()
                text = f"a header of {size} bytes and a payload of {nbytes}; the limits are {MAX_HEADER}, {MAX_FRAME}"
                raise BadMessage(text)
            begin = at + _SIZES.size + size
            if begin > end:
                break
            header = data[at + _SIZES.size : begin]
            if nbytes == ABSENT:
                at = begin
                yield header, None
                continue
            try:
                payload = memoryview(self._room(nbytes)).cast("B")
            except BadMessage:
                self.close()
                raise
            at = begin + nbytes
            if at > end:
                self._header, self._payload, self._filled, self.began = header, payload, end - begin, time.monotonic()
                payload[: end - begin] = data[begin:]
                return
            payload[:] = data[begin:at]
            yield header, payload
        if not self.closed:
            self._got = data[at:]

    def _read(self) -> bytes:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.close()
        return data

    def _fill(self) -> int:
        """Read more of the payload under way; return how many bytes came."""
        try:
            count = self._sock.recv_into(self._payload[self._filled :])
        except BlockingIOError:
            return 0
        except OSError:
            count = 0
        if not count:
            self.close()
        self._filled += count
        return count

    def close(self) -> None:
        """Close it; closing twice does nothing. What did not come whole is dropped, and what was not sent."""
        self.closed = True
        self._got, self._header, self._payload = b"", None, memoryview(b"")
        for _, sending in self._unsent:
            if sending is not None:
                sending.done = True
        self._unsent.clear()
        self.unsent_payload = self._unsent_headers = 0
        self._sock.close()
