"""UnixChannel: headers between two processes of one host, over a Unix socket, and memory as open files.

A frame is four bytes of length, little-endian, and a header. Tensors do not travel here: they lie in segments that
both sides hold. Half the latency of ZeroMQ, whose background threads wake each other up on the way (measured: 60
bytes to and fro in 70 µs, against 140 over ipc).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from array import array
from collections.abc import Iterator, Sequence

from ps.errors import BadMessage, Unshared
from ps.protocol.codec import MAX_HEADER

MAX_FDS = 2
"""Open files that one frame may carry, and the most that are kept until somebody takes them."""
MAX_UNSENT = 16 << 20
"""Bytes kept for a peer that does not read; beyond that the channel is closed."""
_READ = 256 << 10
_LENGTH = struct.Struct("<I")
_CREDENTIALS = struct.Struct("iII")
_FDS_SPACE = socket.CMSG_LEN(MAX_FDS * array("i").itemsize)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def dialled(path: str) -> socket.socket:
    """Return a connection to a process that listens there. Raises Unshared when none does, or it is another user's."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(1.0)
        sock.connect(path)
        demand_same_user(sock)
    except (OSError, Unshared) as error:
        sock.close()
        raise Unshared(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return sock


class UnixChannel:
    """One end of a connection. Never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._got = bytearray()
        self._unsent = bytearray()
        self._fds: list[int] = []
        self.expects_fds = False
        """Whether open files that come with what is received next are kept; others are closed by the system."""
        self.closed = False

    @classmethod
    def connect(cls, path: str) -> UnixChannel:
        """Connect to a process that listens there. Raises Unshared when it does not, or belongs to another user."""
        return cls(dialled(path))

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._sock.fileno()

    def peer(self) -> int:
        """Return a new descriptor of the process at the other end (pidfd), -1 where it is not to be seen."""
        pid, _, _ = _CREDENTIALS.unpack(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        try:
            return os.pidfd_open(pid) if pid > 0 else -1
        except OSError:
            return -1

    @property
    def unsent(self) -> bool:
        """Whether something waits for room; ``flush`` sends it when the descriptor is writable."""
        return bool(self._unsent)

    def send(self, header: bytes, fds: Sequence[int] = ()) -> None:
        """Send a header, now or when there is room; open files only go with one that is sent at once.

        Does nothing once the channel is closed, by the peer or because it does not read.
        """
        if self.closed:
            return
        frame = _LENGTH.pack(len(header)) + header
        try:
            if self._unsent:
                sent = 0
            elif fds:
                sent = socket.send_fds(self._sock, [frame], fds)
            else:
                sent = self._sock.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(frame):
            self._unsent += frame[sent:]
            if len(self._unsent) > MAX_UNSENT:
                self.close()

    def put(self, header: bytes) -> None:
        """Have a header sent with the next ``flush``, together with others: one call into the system for many."""
        if not self.closed:
            self._unsent += _LENGTH.pack(len(header)) + header
            if len(self._unsent) > MAX_UNSENT:
                self.close()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def receive(self) -> Iterator[bytes]:
        """Yield the headers that are here. Once the peer is gone the channel is closed.

        Raises BadMessage for what is no frame, or brings too many open files; the channel is closed then, too.
        """
        data = self._read()
        got = self._got
        if not got and len(data) >= 4 and _LENGTH.unpack_from(data)[0] == len(data) - 4:  # the usual case: just one
            yield data[4:]
            return
        got += data
        while len(got) >= 4:
            (size,) = _LENGTH.unpack_from(got)
            if size > MAX_HEADER:
                self.close()
                raise BadMessage(f"a header of {size} bytes; the limit is {MAX_HEADER}")
            if len(got) < 4 + size:
                return
            header = bytes(got[4 : 4 + size])
            del got[: 4 + size]
            yield header

    def _read(self) -> bytes:
        if self.closed:
            return b""
        try:
            if self.expects_fds:
                data, ancillary, _, _ = self._sock.recvmsg(_READ, _FDS_SPACE, _CLOSE_ON_EXEC)
                self._fds += _open_files(ancillary)
            else:
                data = self._sock.recv(_READ)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if len(self._fds) > MAX_FDS:
            count = len(self._fds)
            self.close()
            raise BadMessage(f"{count} open files for one message; the limit is {MAX_FDS}")
        if not data:
            self.close()
        return data

    def take_fds(self) -> list[int]:
        """Return the open files that came since the last call; they are the caller's now."""
        fds, self._fds = self._fds, []
        return fds

    def close(self) -> None:
        """Close the channel; closing twice does nothing."""
        self.closed = True
        self._got.clear()
        self._unsent.clear()
        for fd in self.take_fds():
            with contextlib.suppress(OSError):
                os.close(fd)
        self._sock.close()


def _open_files(ancillary: Sequence[tuple[int, int, bytes]]) -> array[int]:
    """Return the descriptors that came with a message."""
    fds = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds


def demand_same_user(sock: socket.socket) -> None:
    """Raise Unshared unless the process at the other end of a Unix socket belongs to this user."""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid != os.getuid():
        raise Unshared(f"the process there belongs to another user ({uid}, not {os.getuid()})")
