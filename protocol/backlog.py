"""Backlog: which connection is cut when peers say more than a listening process can take.

ZeroMQ would stop reading a connection of which so many messages wait (``RCVHWM``), but a peer that is not read can end
the process: its connection breaks, and the next heartbeat of ZMTP, ours by the clock or its own in what was received,
is answered all the same (libzmq 4.3.5: ``stream_engine_base_t::out_event`` asserts that nothing has broken). So
everything is read, and who floods is cut off.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping

SUSPECT = 64 << 20
"""Bytes by which memory has grown, since nothing waited, before anybody's bytes are counted."""
MOST_GROWN = 512 << 20
"""Bytes by which it may grow while more comes than is taken."""
MOST_WAITING = 16 << 20
"""Bytes that came and were not taken since they are counted; small messages take twenty times their bytes here."""
FEW = 256 << 10
"""Bytes of late for which nobody is cut while memory has not grown by twice what it may: those who flood are gone."""
_TCP_INFO, _RECEIVED = 11, struct.Struct("=Q")
_AT = 128
"""Where ``struct tcp_info`` of Linux has ``tcpi_bytes_received``."""


class Backlog:
    """Decides by what was received and taken, and by this process's memory."""

    def __init__(self) -> None:
        self.is_full = False
        """Whether there is no room for what newcomers say: they are turned away."""
        self._drained = -1
        self._memory = 0
        self._latest: Mapping[int, int] | None = None
        """What each connection had received at the last count; None before there was one."""
        self._waiting = 0
        """Bytes that came since the first count and were not taken, also on connections that have gone since."""
        self._taken = 0

    def suspects(self, drained: int, memory: int) -> bool:
        """Whether the connections' bytes are to be counted. ``drained``: how often nothing was left to take."""
        if drained != self._drained:
            self._drained, self._memory, self._latest, self.is_full = drained, memory, None, False
        return memory - self._memory > SUSPECT

    def flooding(self, received: Mapping[int, int], taken: int, memory: int) -> list[int]:
        """Return the descriptors of the connections to cut: who has brought most of late, and at least half of that.

        ``received``: the bytes of each; ``taken``: those that this process has taken off all.
        """
        if self._latest is None:
            self._latest, self._taken, self._waiting = received, taken, 0
            return []
        late, self._latest = _more(received, self._latest), received
        more, self._taken = sum(late.values()) - (taken - self._taken), taken
        self._waiting += more
        self.is_full = memory - self._memory > MOST_GROWN and self._waiting > MOST_WAITING
        if (
            not self.is_full or more <= 0
        ):  # if it gets less, who brought so much has gone, and who is here is not to blame
            return []
        least = FEW if memory - self._memory <= 2 * MOST_GROWN else 1
        most = max(late.values(), default=0)
        return [number for number, count in late.items() if count >= least and 2 * count >= most]


def _more(now: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int]:
    """Return by how much each has grown; a number that had more is another connection's by now."""
    was = {number: count if (count := before.get(number, 0)) <= now[number] else 0 for number in now}
    return {number: now[number] - was[number] for number in now}


def bytes_received(numbers: Iterable[int]) -> dict[int, int]:
    """Return how many bytes each TCP connection has received; those of no such connection are left out."""
    found = {}
    for number in numbers:
        with contextlib.suppress(OSError, struct.error):
            sock = socket.socket(fileno=number)
            try:
                info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
            finally:
                sock.detach()
            found[number] = _RECEIVED.unpack_from(info, _AT)[0]
    return found


def cut(number: int) -> None:
    """End a connection; ZeroMQ closes it."""
    with contextlib.suppress(OSError):
        sock = socket.socket(fileno=number)
        try:
            sock.shutdown(socket.SHUT_RDWR)
        finally:
            sock.detach()


def turn_away(number: int) -> None:
    """End a connection so that the other end knows that it may come again: ZeroMQ closes it, and it is reset."""
    with contextlib.suppress(OSError):
        sock = socket.socket(fileno=number)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RD)  # the other half would say that this is the end
        finally:
            sock.detach()
