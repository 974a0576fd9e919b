"""ZMTP 3.0 by hand, for tests that break its rules: what a ZeroMQ library would never let out."""

from __future__ import annotations

import contextlib
import select
import socket

MORE, LONG, COMMAND = 1, 2, 4


def connect(address: str, kind: bytes = b"DEALER", name: bytes = b"") -> socket.socket:
    """Return a TCP connection on which the handshake of a peer of this kind is done."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=10)
    try:
        return greet(sock, kind, name)
    except BaseException:  # whoever is there may have no room
        sock.close()
        raise


def greet(sock: socket.socket, kind: bytes, name: bytes = b"") -> socket.socket:
    """Do the handshake of a peer of this kind on a connection, and return that. ``name``: the routing id it wishes."""
    sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    _exactly(sock, 64)
    ready = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    if name:
        ready += b"\x08Identity" + len(name).to_bytes(4, "big") + name
    sock.sendall(bytes((COMMAND, len(ready))) + ready)
    head = _exactly(sock, 2)
    _exactly(sock, head[1])
    return sock


def frame(body: bytes, *, more: bool = False, declared: int | None = None) -> bytes:
    """Return the bytes of a frame, which may declare another size than it has."""
    size = len(body) if declared is None else declared
    if size < 256:
        return bytes((MORE * more, size)) + body
    return bytes((LONG | MORE * more,)) + size.to_bytes(8, "big") + body


def send(sock: socket.socket, data: bytes, *, deaf: bool = False) -> bool:
    """Send all of it; return False once the other side has closed, which may read no more long before it resets.

    ``deaf``: what it says until then is thrown away.

    Raises TimeoutError when nothing goes for half a minute.
    """
    left = memoryview(data)
    while left:
        heard, free, _ = select.select([sock], [sock], [], 30)
        if heard and deaf:
            with contextlib.suppress(ConnectionError):
                if sock.recv(1 << 16):
                    continue
            return False
        if heard and closed(sock):
            return False
        if heard or not free:
            raise TimeoutError("nothing is read, and the connection is not closed")
        try:
            left = left[sock.send(left, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            continue
        except ConnectionError:
            return False
    return True


def closed(sock: socket.socket) -> bool:
    """Wait until the other side closes or resets the connection; False when it does not in ten seconds."""
    with contextlib.suppress(ConnectionError):
        try:
            while sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
    return True


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionError("closed in the middle of the handshake")
        data += part
    return data
