"""Transports: how an address is listened on and which of a peer's addresses to take.

A transport is one small class and one line in ``TRANSPORTS``. ZeroMQ carries tcp and ipc; in shared memory only
headers travel, on a ``UnixChannel``.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import uuid
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import zmq

from ps.errors import AddressInUse, ConfigError, Refused
from ps.protocol.codec import MAX_FRAME
from ps.protocol.dial import look

_MAX_UNIX_PATH = 107

_SYSTEM = -1
"""Leave a socket's buffers to the system: TCP's grow as needed, and any fixed size was slower."""
_UNIX_BUFFER = 2 << 20
"""Bytes of a Unix socket's buffers. Its usual 200 KB make sender and reader wake each other five times per megabyte
(measured: raw, 40 MB one way in 25 ms with the usual size, 10 ms with 1 MB or more)."""

DEAF = 2.0
"""Seconds for which the system at a connection's other end may acknowledge nothing before the connection is made anew.

A host that vanishes says no goodbye, and TCP alone would try for minutes, less and less often. It is TCP that is asked
and not ZeroMQ's own heartbeat, since that waits for whole messages: one of 64 MiB takes longer on a slow link, and a
process that stands still could not answer it. What was lost with a connection is asked for and sent again."""

Socket = zmq.Socket[bytes]


class Way(Protocol):
    """One way between two processes."""

    name: str

    def reaches(self, address: str) -> bool:
        """Whether this process can connect to the address; the proof is the thing itself, not a name."""
        ...


class Transport(Way, Protocol):
    """A way that ZeroMQ carries."""

    def bind(self, sock: Socket, host: str, port: int, directory: Path) -> str:
        """Listen and return the address peers connect to. Raises AddressInUse."""
        ...

    def connect(self, sock: Socket, address: str) -> None:
        """Connect to an address of this transport."""
        ...


class Tcp:
    """TCP, between any two hosts."""

    name = "tcp"

    def bind(self, sock: Socket, host: str, port: int, directory: Path) -> str:
        interface = f"[{host}]" if ":" in host else host
        _set_buffers(sock, _SYSTEM)
        try:
            sock.bind(f"tcp://{interface}:{port or '*'}")
        except zmq.ZMQError as error:
            raise _bind_error(error, f"tcp://{interface}:{port}") from None
        bound = str(sock.getsockopt_string(zmq.LAST_ENDPOINT)).rpartition(":")[2]
        return f"tcp://{reachable_host(host)}:{bound}"

    def connect(self, sock: Socket, address: str) -> None:
        _set_buffers(sock, _SYSTEM)
        sock.setsockopt(zmq.IPV6, int(look(address).ipv6))
        sock.connect(address)

    def reaches(self, address: str) -> bool:
        return True


class Ipc:
    """Unix-domain sockets, between processes of one host. The directory is private to its owner."""

    name = "ipc"

    def bind(self, sock: Socket, host: str, port: int, directory: Path) -> str:
        path = _unix_path(directory)
        _set_buffers(sock, _UNIX_BUFFER)
        try:
            sock.bind(f"ipc://{path}")
        except zmq.ZMQError as error:
            raise _bind_error(error, f"ipc://{path}") from None
        return f"ipc://{path}"

    def connect(self, sock: Socket, address: str) -> None:
        _set_buffers(sock, _UNIX_BUFFER)
        sock.connect(address)

    def reaches(self, address: str) -> bool:
        return _is_open(address.removeprefix("ipc://"))


class Shm:
    """Memory that processes of one host and user share: tensors lie in it, headers use a ``UnixChannel``."""

    name = "shm"

    def listen(self, directory: Path) -> tuple[socket.socket, str]:
        """Return a socket on which channels come in, and its address. Raises ConfigError."""
        path = _unix_path(directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise ConfigError(f"cannot listen on {path}: {error.strerror}; --runtime-dir must be writable") from None
        listener.setblocking(False)
        return listener, f"shm://{path}"

    def reaches(self, address: str) -> bool:
        return _is_open(address.removeprefix("shm://"))


SHM = Shm()

TRANSPORTS: dict[str, Transport] = {transport.name: transport for transport in (Ipc(), Tcp())}
"""Those that ZeroMQ carries by name, the fastest first."""

_WAYS: tuple[Way, ...] = (SHM, *TRANSPORTS.values())


def _is_open(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode) and os.access(path, os.W_OK)  # noqa: PTH116
    except OSError:
        return False


def _unix_path(directory: Path) -> Path:
    path = directory / f"{uuid.uuid4().hex[:12]}.sock"
    if len(str(path)) > _MAX_UNIX_PATH:
        raise ConfigError(
            f"{path} is longer than the {_MAX_UNIX_PATH} characters a Unix socket may have; "
            f"choose a shorter --runtime-dir"
        )
    return path


def connect(sock: Socket, address: str) -> None:
    """Connect a socket to any address of ours."""
    TRANSPORTS[address.partition("://")[0]].connect(sock, address)


def _set_buffers(sock: Socket, size: int) -> None:
    """Set the system's buffers for what the socket is bound or connected to next."""
    sock.setsockopt(zmq.SNDBUF, size)
    sock.setsockopt(zmq.RCVBUF, size)


def _bind_error(error: zmq.ZMQError, address: str) -> Exception:
    if error.errno == zmq.EADDRINUSE:
        return AddressInUse(f"{address} is in use by another process; take another --port (0 picks a free one)")
    if address.startswith("ipc:"):
        return ConfigError(f"cannot listen on {address}: {error.strerror}; --runtime-dir must be writable")
    if error.errno == errno.EACCES:
        return ConfigError(f"cannot listen on {address}: {error.strerror}; take a --port above 1023")
    return ConfigError(f"cannot listen on {address}: {error.strerror}; --host must be an address of this machine")


def reachable_host(host: str) -> str:
    """Return the name by which others reach a process that listens on ``host``."""
    if host in ("0.0.0.0", "*", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def advertised(bound: str, wanted: str | None) -> str:
    """Return the address to give to others: the one that is wanted, with the port that is bound if it has none."""
    if wanted is None:
        return bound
    return wanted if urlsplit(wanted).port else f"{wanted}:{bound.rpartition(':')[2]}"


def choose(addresses: tuple[str, ...], wanted: str, peer: str) -> list[str]:
    """Return the addresses of a peer to try: those of the wanted transport that reach it, the fastest first.

    Raises Refused naming the peer when none does.
    """
    found = [
        address
        for way in _WAYS
        if wanted in ("auto", way.name)
        for address in addresses
        if address.startswith(f"{way.name}://") and way.reaches(address)
    ]
    if found:
        return found
    offered = ", ".join(addresses) or "nothing"
    raise Refused(f"{peer} cannot be reached by {wanted} from here; it offers {offered}. Try --transport auto")


def check_address(address: str) -> str:
    """Return a tcp or ipc address as it should be written. Raises ConfigError when it is not one."""
    if address.startswith("ipc://") and len(address) > 6:
        return address
    full = address if "://" in address else f"tcp://{address}"
    try:
        parts = urlsplit(full)
        rest = parts.path or parts.query or parts.fragment or parts.username is not None
        if parts.scheme == "tcp" and parts.hostname and parts.port and not rest and not re.search(r"\s", full):
            return full
    except ValueError:
        pass
    raise ConfigError(f"{address!r} is not an address; expected tcp://HOST:PORT")


def open_socket(context: zmq.Context[Socket], kind: int, *, high_water: int = 1000) -> Socket:
    """Return a socket with the limits and time-outs that every socket of ours has."""
    sock = context.socket(kind)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
    sock.setsockopt(zmq.SNDHWM, high_water)
    sock.setsockopt(zmq.RCVHWM, high_water)
    sock.setsockopt(zmq.RECONNECT_IVL, 50)
    sock.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    sock.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
    sock.setsockopt(zmq.CONNECT_TIMEOUT, int(DEAF * 1000))
    sock.setsockopt(zmq.TCP_MAXRT, int(DEAF * 1000))
    sock.setsockopt(zmq.TCP_KEEPALIVE, 1)
    sock.setsockopt(zmq.TCP_KEEPALIVE_IDLE, int(DEAF))
    sock.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
    sock.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    sock.setsockopt(zmq.IPV6, 1)
    if kind == zmq.ROUTER:
        sock.setsockopt(zmq.ROUTER_HANDOVER, 0)
    return sock
