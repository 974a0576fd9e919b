"""DescriptorGuard: what a listening process does when its peers have taken nearly all of its open files.

ZeroMQ's tcp listener turns away whom there is no descriptor for. Its ipc listener aborts the process then (libzmq
4.3.5: ``ipc_listener_t::accept`` does not expect EMFILE), and a server's part of the model with it. ZeroMQ cannot stop
listening without closing what it has accepted, so the socket's *file* is taken away in time: who is connected stays,
and whoever comes takes tcp. The listener accepts on ZeroMQ's own thread, faster than a main loop would look, hence a
thread here that is woken by each connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
from pathlib import Path

import zmq

from ps.protocol.sockets import Socket

log = logging.getLogger("ps.descriptors")

LEAST = 1024
"""Open files that a process must be allowed for ipc to be offered: with fewer there is no room for a reserve."""
NEARLY, AGAIN = 0.75, 0.6
"""The parts of the allowed files at which the ipc socket's file is taken away, and is put back."""
EVENT = struct.Struct("=Hi")
"""What ZeroMQ tells of an event: its number and a value."""
LOOK = 1.0
"""Seconds between looks at what others than the listener have opened."""


class DescriptorGuard:
    """Guards one listening socket. ``ipc`` is the address of its Unix socket, if it has one."""

    def __init__(self, sock: Socket, limit: int, ipc: str = "") -> None:
        """``limit``: how many files this process may open."""
        self._sock = sock
        self._limit = limit
        self._path = Path(ipc.removeprefix("ipc://")) if ipc else None
        self._is_low = False
        events = zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED
        self._monitor = sock.get_monitor_socket(events)
        self._thread = threading.Thread(target=self._watch, name="descriptors", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; to be called before the socket is closed."""
        self._sock.disable_monitor()
        self._thread.join(10 * LOOK)

    def _watch(self) -> None:
        try:
            while True:
                if not self._monitor.poll(int(LOOK * 1000)):
                    self._look(self._lowest())
                    continue
                event, value = EVENT.unpack(self._monitor.recv_multipart()[0])
                if event == zmq.EVENT_MONITOR_STOPPED:
                    return
                is_new = event == zmq.EVENT_ACCEPTED  # its value is the number of what was opened for it
                self._look(value if is_new and not self._is_low else self._lowest())
        finally:
            self._monitor.close(0)

    def _lowest(self) -> int:
        """Return the number of the next file that is opened: so many are open at least."""
        try:
            number = os.dup(0)
        except OSError:
            return self._limit
        os.close(number)
        return number

    def _look(self, number: int) -> None:
        if not self._is_low and number >= NEARLY * self._limit:
            self._is_low = True
            self._move(".sock", ".full")
            log.warning(
                "%d of the %d files that this process may open are open: %s. More are allowed with ulimit -n",
                number,
                self._limit,
                "who connects now takes tcp, and is turned away when all are"
                if self._path
                else "who connects when all are is turned away",
            )
        elif self._is_low and number < AGAIN * self._limit:
            self._is_low = False
            self._move(".full", ".sock")
            log.warning("fewer than %d of %d files are open again", int(AGAIN * self._limit) + 1, self._limit)

    def _move(self, before: str, after: str) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):  # the folder was cleared away: nobody finds the socket then
                self._path.with_suffix(before).rename(self._path.with_suffix(after))
