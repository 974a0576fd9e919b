"""Places: the addresses that the name of a host stands for here."""

from __future__ import annotations

import socket


def places(host: str) -> dict[str, str]:
    """Return the kind of each address of a host, ``IPv4`` or ``IPv6``. Raises OSError for no name of a host."""
    found = socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)
    return {str(place[4][0]): "IPv6" if place[0] == socket.AF_INET6 else "IPv4" for place in found}


def listed(found: dict[str, str]) -> str:
    """Return addresses in words, in order."""
    return ", ".join(sorted(f"{kind} {where}" for where, kind in found.items()))
