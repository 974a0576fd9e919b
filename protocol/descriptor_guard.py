"""DescriptorGuard: what a listening process does when its peers have taken nearly all of its open files, or memory.

ZeroMQ's tcp listener turns away whom there is no descriptor for. Its ipc listener aborts the process then (libzmq
4.3.5: ``ipc_listener_t::accept`` does not expect EMFILE), and a server's part of the model with it. ZeroMQ cannot stop
listening without closing what it has accepted, so the socket's *file* is taken away in time: who is connected stays,
and whoever comes takes tcp. The listener accepts on ZeroMQ's own thread, faster than a main loop would look, hence a
thread here that is woken by each connection. The same thread cuts off who floods this process, see ``backlog``, and
who is too many, see ``crowd``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from ps.protocol import pid
from ps.protocol.backlog import Backlog, bytes_received, cut, turn_away
from ps.protocol.crowd import Crowd, room
from ps.protocol.inbox import Inbox
from ps.protocol.incoming import Incoming
from ps.protocol.seldom import Seldom
from ps.protocol.sockets import EVENT, Socket
from ps.protocol.unfinished import Unfinished

log = logging.getLogger("ps.descriptors")

LEAST = 1024
"""Open files that a process must be allowed for ipc to be offered: with fewer there is no room for a reserve."""
NEARLY, AGAIN = 0.75, 0.6
"""The parts of the allowed files at which the ipc socket's file is taken away, and is put back."""
LOOK = 1.0
"""Seconds between looks at what others than the listener have opened."""
GLANCE = 0.1
"""Seconds between looks at this process's memory."""
MOST_HOSTS = 10_000
"""Addresses of which it is remembered whether they are this host's."""
COUNTS = 100e-6
"""Seconds between two counts of the bytes received, for each connection: a count takes one of them a microsecond."""


class DescriptorGuard:
    """Guards one listening socket, from before it is bound: a connection that it has not seen come is never counted."""

    def __init__(
        self, sock: Socket, limit: int, *, inbox: Inbox | None = None, incoming: Incoming | None = None
    ) -> None:
        """``limit``: how many files this process may open. ``inbox``: who reads the socket, if that is one.

        ``incoming``: what comes on a socket that this process has connected; it is looked at here too.
        """
        if sock.getsockopt(zmq.LAST_ENDPOINT):
            raise ValueError("a socket is guarded before it is bound")
        self._incoming = incoming
        self._inbox = inbox
        self._backlog = Backlog()
        self._unfinished = Unfinished()
        self._accepted: set[int] = set()
        self._crowd = Crowd(room(limit))
        self._own: dict[str, bool] = {}
        self._seldom = Seldom()
        self._glanced = 0.0
        self._counted = 0.0
        self._sock = sock
        self._limit = limit
        self._path: Path | None = None
        self._is_low = False
        events = zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED
        self._monitor = sock.get_monitor_socket(events)
        self._thread = threading.Thread(target=self._watch, name="descriptors", daemon=True)
        self._thread.start()

    def guard_file(self, address: str) -> None:
        """Take the file of this Unix socket away while there are no descriptors; ``address`` is that of ZeroMQ."""
        self._path = Path(address.removeprefix("ipc://"))

    @property
    def accepted(self) -> set[int]:
        """The descriptors of the connections that there are; another thread finds out about them."""
        return self._accepted.copy()  # at once, as far as Python is concerned

    def close(self) -> None:
        """Stop; to be called before the socket is closed."""
        self._sock.disable_monitor()
        self._thread.join(10 * LOOK)

    def _glance(self) -> None:
        """Cut off who floods this process, if somebody does."""
        if self._incoming is not None:
            self._incoming.look()
        inbox, now = self._inbox, time.monotonic()
        if inbox is None or now - self._glanced < GLANCE:
            return
        self._glanced = now
        drained, taken = inbox.load()
        memory = resident()
        suspects, counts = self._backlog.suspects(drained, memory), now - self._counted >= COUNTS * len(self._accepted)
        heard = inbox.heard() if counts else set()
        self._crowd.spoke(heard)
        received = bytes_received(self._accepted) if suspects or counts else {}
        for number in self._backlog.flooding(received, taken, memory) if suspects else ():
            self._part(number, "more comes on it than can be taken", now)
        if counts:
            self._counted = now
            watches, endless = self._unfinished.look(received, heard, memory, mute=self._crowd.is_mute, drains=drained)
            inbox.note_heard(on=watches or self._crowd.is_asked)
            for number in endless:
                self._part(number, "a message comes on it that does not end", now)
            self._turn_out(self._crowd.mute(now), now)

    def _admit(self, number: int) -> None:
        """Count a connection that has come; where there are too many one has to go."""
        if self._inbox is None:
            return
        now, host = time.monotonic(), _host(number)
        if host not in self._own:
            if len(self._own) > MOST_HOSTS:
                self._own.clear()
            self._own[host] = not host or pid.is_own_address(host)
        if not self._crowd.is_asked:
            self._inbox.note_heard()
        if self._backlog.is_full:
            self._part(number, "more has come on others than can be taken", now, end=turn_away)
        self._turn_out(self._crowd.came(number, _network(host), now, own=self._own[host]), now)

    def _turn_out(self, numbers: list[int], now: float) -> None:
        for number in numbers:
            self._part(number, f"of {len(self._crowd) + 1} it is one too many", now, end=turn_away)

    def _part(self, number: int, why: str, now: float, end: Callable[[int], None] = cut) -> None:
        end(number)
        self._seldom.warn(log, now, "a connection is cut: %s", why)

    def _watch(self) -> None:
        looked = 0.0
        try:
            while True:
                self._glance()
                if not self._monitor.poll(int((LOOK if self._inbox is None else GLANCE) * 1000)):
                    if time.monotonic() - looked >= LOOK:
                        looked = time.monotonic()
                        self._look(self._lowest())
                    continue
                event, value = EVENT.unpack(self._monitor.recv_multipart()[0])
                if event == zmq.EVENT_MONITOR_STOPPED:
                    return
                if event == zmq.EVENT_ACCEPTED:
                    self._accepted.add(value)
                    self._admit(value)
                elif event == zmq.EVENT_DISCONNECTED:
                    self._accepted.discard(value)
                    self._crowd.went(value)
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


def resident() -> int:
    """Return the bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _host(number: int) -> str:
    """Return the address of a connection's other end; nothing for a Unix socket, or one that has gone."""
    try:
        sock = socket.socket(fileno=number)
        try:
            name = sock.getpeername()
        finally:
            sock.detach()
    except OSError:
        return ""
    return name[0].removeprefix("::ffff:").partition("%")[0] if isinstance(name, tuple) else ""


def _network(host: str) -> str:
    """Return what counts as one host: of IPv6, whose hosts may have any number of addresses, 64 bits."""
    return str(ipaddress.ip_network(f"{host}/64", strict=False)) if ":" in host else host
