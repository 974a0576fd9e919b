"""Addresses: how one is written, and which one a process gives to others."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

from ps.errors import ConfigError

_KEYED = re.compile(r"(tcp://[^?]+)\?key=([0-9a-f]{64})")


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
