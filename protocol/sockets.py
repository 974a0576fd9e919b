"""Sockets: the limits and time-outs that every ZeroMQ socket of ours has."""

from __future__ import annotations

import errno
import struct

import zmq

from ps.errors import AddressInUse, ConfigError
from ps.protocol.codec import MAX_FRAME

DEAF = 2.0
"""Seconds for which the system at a connection's other end may acknowledge nothing before the connection is made anew.

A host that vanishes says no goodbye, and TCP alone would try for minutes, less and less often. It is TCP that is asked
and not ZeroMQ's own heartbeat, since that waits for whole messages: one of 64 MiB takes longer on a slow link, and a
process that stands still could not answer it. What was lost with a connection is asked for and sent again."""

Socket = zmq.Socket[bytes]

EVENT = struct.Struct("=Hi")
"""What ZeroMQ tells of an event on a socket that is monitored: its number and a value."""


def open_socket(
    context: zmq.Context[Socket],
    kind: int,
    *,
    high_water: int = 1000,
    longest: int = MAX_FRAME,
) -> Socket:
    """Return a socket with the limits and time-outs that every socket of ours has.

    ``high_water``: messages that wait for one peer; ``longest``: bytes of a frame.
    """
    sock = context.socket(kind)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.MAXMSGSIZE, longest)
    sock.setsockopt(zmq.SNDHWM, high_water)
    sock.setsockopt(zmq.RCVHWM, 0)  # or a peer could end this process: see ``backlog``
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


def set_buffers(sock: Socket, size: int) -> None:
    """Set the system's buffers for what the socket is bound or connected to next."""
    sock.setsockopt(zmq.SNDBUF, size)
    sock.setsockopt(zmq.RCVBUF, size)


def bind_error(error: zmq.ZMQError, address: str) -> Exception:
    """Return what is raised when an address cannot be listened on, with what to do."""
    if error.errno == zmq.EADDRINUSE:
        return AddressInUse(f"{address} is in use by another process; take another --port (0 picks a free one)")
    if address.startswith("ipc:"):
        advice = "--runtime-dir must be writable"
    elif error.errno == errno.EACCES:
        advice = "take a --port above 1023"
    else:
        advice = "--host must be an address or a name of this machine"
    return ConfigError(f"cannot listen on {address}: {zmq.strerror(error.errno or 0)}; {advice}")
