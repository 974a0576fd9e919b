"""Addresses: how one is written, and which one a process gives to others."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from ps.errors import ConfigError
from ps.loopback import is_loopback

_KEYED = re.compile(r"(tcp://[^?]+)\?key=([0-9a-f]{64})")


EVERYWHERE = ("0.0.0.0", "*", "::")
"""What a process listens on that listens on all addresses of its host."""
OUTSIDE = (("203.0.113.1", 9), ("2001:db8::1", 9))
"""Places on no host's own network: the way to one is the way to most others. Nothing is ever sent there."""


def reachable_host(host: str) -> str:
    """Return by what others reach a process that listens on ``host``: that, or the address on the way to most of them.

    A host's own name is no good for that: often enough nobody else can resolve it.
    """
    if host not in EVERYWHERE:
        return f"[{host}]" if ":" in host else host
    return next(filter(None, map(_own_host, OUTSIDE)), "") or socket.gethostname()


def advertised(bound: str, wanted: str | None, host: str = "", towards: str = "") -> str:
    """Return the address to give to others: the one that is wanted, with the port that is bound if it has none.

    A process that listens everywhere (``host``) is reached by the address on its way to ``towards``, where that is
    another host's.
    """
    port = bound.rpartition(":")[2]
    if wanted is not None:
        return wanted if urlsplit(wanted).port else f"{wanted}:{port}"
    own = host_towards(towards) if host in EVERYWHERE else ""
    return f"tcp://{own}:{port}" if own else bound


def host_towards(address: str) -> str:
    """Return this host's own address on the way to another's, as it stands in an address; nothing if there is none."""
    parts = urlsplit(address)
    if parts.scheme != "tcp" or not parts.hostname:
        return ""
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ""
    return next(filter(None, (_own_host((str(place[4][0]), parts.port or 9)) for place in found)), "")


def _own_host(place: tuple[str, int]) -> str:
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place)  # which only asks the system for the way
            own = str(probe.getsockname()[0])
    except OSError:
        return ""
    if is_loopback(own):
        return ""
    return f"[{own}]" if family == socket.AF_INET6 else own


def with_key(address: str, curve: bytes | None) -> str:
    """Return a TCP address as it is told to others, with the CURVE key (32 bytes) that they are to find there."""
    return f"{address}?key={curve.hex()}" if curve and address.startswith("tcp://") else address


def split_key(address: str) -> tuple[str, bytes | None]:
    """Return the address that ``with_key`` was given, and the key; None where there is none."""
    found = _KEYED.fullmatch(address)
    return (found[1], bytes.fromhex(found[2])) if found else (address, None)


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
