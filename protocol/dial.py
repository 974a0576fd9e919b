"""Dial: a socket's connection to an address whose host may be a name, and why nobody can be reached there.

ZeroMQ takes a name's IPv6 address where it has one and never tries the other, and of what cannot be reached it says
nothing. Here the family of addresses is the one in which somebody listens. The name is kept: it is resolved anew
whenever a connection is made, since hosts move.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import zmq

from ps.dataclass import dataclass
from ps.errors import ConfigError, KeyRefused
from ps.loopback import is_loopback
from ps.protocol.guarded_context import aim, security_of
from ps.protocol.incoming import Incoming

PROBE = 1.0
"""Seconds for which one address of a host is tried."""
AGAIN = 1.0
"""Seconds between two looks for somebody who has not answered yet."""

Resolve = Callable[[str, int], list[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """How an address is reached: by IPv6 or IPv4; ``trouble`` says why it is not, in one line."""

    ipv6: bool = True
    trouble: str = ""


def resolve(host: str, port: int) -> list[Any]:
    """Return a host's addresses, as ``socket.getaddrinfo`` does."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def look(address: str, *, probing: bool = False, timeout: float = PROBE, resolve: Resolve = resolve) -> Route:
    """Find out how an address is reached. Connects where a name has addresses of both families, or if ``probing``.

    Where nobody listens, a name with both is taken for its IPv4 address.
    """
    if not address.startswith("tcp://"):
        return Route()
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 0
    try:
        found = resolve(host, port)
    except OSError as error:
        return Route(trouble=f"{host} is the name of no host ({error.strerror})")
    except UnicodeError:
        return Route(trouble=f"{host!r} is no name that a host can have")
    places = {place[4][0]: place for place in sorted(found, key=lambda place: place[0] == socket.AF_INET6)}
    families = {place[0] for place in found}
    if len(families) == 1 and not probing:
        return Route(ipv6=socket.AF_INET6 in families)
    refusals = []
    for name, place in places.items():
        why = _refusal(place, timeout)
        if not why:
            return Route(ipv6=place[0] == socket.AF_INET6)
        refusals.append(f"{name}: {why}" if len(places) > 1 else why)
    return Route(socket.AF_INET not in families, f"nobody can be reached at {address} ({', '.join(refusals)})")


def _refusal(place: Any, timeout: float) -> str:
    family, kind, protocol, _, where = place
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(timeout)
            probe.connect(where)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except ConnectionResetError:  # somebody is there, who has no room just now
        return ""
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    return ""


class Dial:
    """A socket's connection to one address; until somebody has answered, ``again`` looks for a better way."""

    def __init__(self, sock: zmq.Socket[bytes], address: str, now: float, resolve: Resolve = resolve) -> None:
        """Connect. Where keys are used, one that is listed for a scheduler is expected there."""
        self._sock = sock
        self._turn = 0
        """Which of the keys is expected that are listed: while they are replaced there are several."""
        self._address = address
        self._resolve = resolve
        self._looked = now
        self._said = ""
        self._ipv6 = look(address, resolve=resolve).ipv6
        self._connect()

    def again(self, now: float) -> str:
        """Look again, if it is time, and connect anew where another way is better; return what is new to say."""
        if now - self._looked < AGAIN:
            return ""
        self._looked = now
        way = look(self._address, probing=True, resolve=self._resolve)
        if way.ipv6 != self._ipv6 and not way.trouble:
            self._ipv6 = way.ipv6
            self._connect_again()
        if way.trouble == self._said:
            return ""
        self._said = way.trouble
        return way.trouble

    def another_key(self) -> bool:
        """Expect another key that is listed for a scheduler, if there is one that was not tried yet."""
        listed = self._listed()
        if self._turn + 1 >= len(listed):
            self._turn = -1  # and all of them again: it may be away
        self._turn += 1
        self._connect_again()
        return self._turn > 0

    def refusal(self, incoming: Incoming, *, joined: bool) -> KeyRefused | None:
        """Return why this process cannot talk to the scheduler, if it is for the keys; other keys are tried before.

        ``joined``: it has talked to it before: then whoever is there now may be another one, and it is waited for.
        Connects again where ZeroMQ does not any more, since somebody there has broken the protocol.
        """
        incoming.connect_again(self._connect_again)
        found = incoming.refusal()
        if found is None:
            return None
        if incoming.handshake.verdict == "another":
            security_of(self._sock).refresh()
            incoming.handshake.forget()
            if self.another_key() or joined:
                return None
        return found

    def _listed(self) -> list[bytes]:
        return security_of(self._sock).expected("scheduler")

    def _connect_again(self) -> None:
        self._sock.disconnect(self._address)
        self._connect()

    def _connect(self) -> None:
        listed = self._listed()
        folder = security_of(self._sock).folder
        if folder is not None and not listed:
            raise ConfigError(f"{folder.path} lists no scheduler, and this process is to talk to one: psctl keys add")
        aim(self._sock, listed[self._turn % len(listed)] if listed else None, f"the scheduler at {self._address}")
        self._sock.setsockopt(zmq.IPV6, int(self._ipv6))
        self._sock.connect(self._address)


def doubts(address: str, scheduler: str, resolve: Resolve = resolve) -> str:
    """Return why others may not reach the address that a process gives them, and what to do; nothing if they may.

    Loopback is right where the scheduler is reached by it as well.
    """
    host, other = urlsplit(address).hostname or "", urlsplit(scheduler).hostname or ""
    advice = "give the one that others reach: --host, or --advertise behind a forwarded port"
    try:
        found = resolve(host, 0)
    except (OSError, UnicodeError):
        return f"not even this host knows {host}; {advice}"
    if not all(is_loopback(place[4][0]) for place in found) or host == socket.gethostname():
        return ""
    try:
        is_far = scheduler.startswith("tcp://") and not any(is_loopback(place[4][0]) for place in resolve(other, 0))
    except (OSError, UnicodeError):
        is_far = False
    return f"that is an address for processes of this host only, and the scheduler is elsewhere; {advice}" * is_far
