"""Incoming: what comes on a connecting socket, and the end of a connection on which far more comes than was asked for.

ZeroMQ reads on its own thread whatever a peer says, without a bound (see ``backlog``). Whoever has the socket counts
what it takes off; some thread that is never long at work looks ten times a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import zmq

from ps.errors import KeyRefused
from ps.protocol.backlog import bytes_received, cut
from ps.protocol.guarded_context import security_of
from ps.protocol.handshake import EVENTS, Handshake, key_error
from ps.protocol.sockets import EVENT, Socket
from ps.protocol.unasked import Unasked

log = logging.getLogger("ps.protocol")

_TRIES = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECT_RETRIED
"""What ZeroMQ tells of a connection that it makes, or is about to make."""

GLANCE = 0.1
"""Seconds between looks."""
ABANDONED = 3.0
"""Seconds after the end of a connection in which ZeroMQ begins to make another one, if it ever does."""
_SHORT = 256
"""Bytes of the shortest frame whose length ZMTP tells in eight bytes."""


class Incoming:
    """Watches one socket; bytes are known of TCP connections on Linux only. ``peer``: its name, for people."""

    def __init__(self, sock: Socket, peer: str) -> None:
        self.due = 0
        """Bytes of answers that are to come at most; kept by whoever asks."""
        self._peer = peer
        self._taken = 0
        self._drains = 0
        self._unasked = Unasked()
        self._number: int | None = None
        self._looked = 0.0
        self._ended: float | None = None
        """When the connection ended; None while there is one, or another is being made."""
        self._sock = sock
        self._lock = threading.Lock()
        """Held by whichever thread has the monitor."""
        self.handshake = Handshake()
        self._monitor: Socket | None = sock.get_monitor_socket(zmq.EVENT_DISCONNECTED | _TRIES | EVENTS)

    def receive(self) -> bytes:
        """Take a message, and return its first frame; what has more is for nobody. Raises ``zmq.Again``."""
        return self.frames()[0].bytes

    def frames(self) -> list[zmq.Frame]:
        """Take a message, and return its frames. Raises ``zmq.Again``."""
        try:
            frames = self._sock.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self.drained()
            raise
        for frame in frames:
            self.took(len(frame))
        return frames

    def took(self, size: int) -> None:
        """Count a frame that was taken off the socket."""
        self._taken += size + (2 if size < _SHORT else 9)

    def drained(self) -> None:
        """Note that no message was left."""
        self._drains += 1

    def look(self) -> None:
        """Cut the connection off if too much comes on it; does nothing until it is time."""
        now = time.monotonic()
        if now - self._looked < GLANCE:
            return
        self._looked = now
        with self._lock:
            if self._monitor is not None:
                self._hear(self._monitor)
        if self._number is None:
            return
        received = bytes_received((self._number,)).get(self._number)
        if received is not None and self._unasked.look(received, self._taken, self._drains, self.due):
            log.warning("the connection to %s is cut: more comes on it than was asked for", self._peer)
            cut(self._number)

    def _hear(self, monitor: Socket) -> None:
        while monitor.poll(0):
            event, value = EVENT.unpack(monitor.recv_multipart()[0])
            self.handshake.hear(event, value, time.monotonic())
            if event & _TRIES:
                self._ended = None
            elif event == zmq.EVENT_DISCONNECTED:
                self._number, self._ended = None, time.monotonic()
            if event == zmq.EVENT_CONNECTED:
                self._number = value
                self._unasked.connected(self._taken)

    @property
    def is_abandoned(self) -> bool:
        """Whether ZeroMQ makes no connection any more: after a peer that broke the protocol it never does.

        That need not be whoever listens there now (libzmq 4.3.5: ``session_base_t::engine_error``).
        """
        return self._ended is not None and time.monotonic() - self._ended > ABANDONED

    def connect_again(self, again: Callable[[], None]) -> None:
        """Have ``again`` disconnect the socket and connect it, where ZeroMQ does not any more."""
        if self.is_abandoned:
            self._ended = None
            again()

    def refusal(self) -> KeyRefused | None:
        """Return why nobody is reached, if it is for the keys."""
        verdict = self.handshake.verdict
        return key_error(verdict, security_of(self._sock), self._peer) if verdict else None

    def close(self) -> None:
        """Stop; to be called by whoever has the socket, before it is closed."""
        with self._lock:
            if self._monitor is not None:
                self._sock.disable_monitor()
                self._monitor.close(0)
                self._monitor = None
