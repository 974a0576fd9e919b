"""Loopback: whether an address is for processes of its own host alone."""

from __future__ import annotations

import ipaddress
import socket


def is_loopback(host: str, *, resolve: bool = False) -> bool:
    """Whether only processes of this host reach a host: an address, with or without its zone, or a name.

    Nobody is asked, and of names only ``localhost`` is known to be one. With ``resolve`` names are looked up,
    which may take seconds: it is for where a process begins, and not for a thread that others wait for. False for what
    stands for all addresses, and for what is neither an address nor the name of a host.
    """
    if host == "localhost" and not resolve:
        return True
    found = [host]
    if resolve and host not in ("*", ""):
        try:
            found = [str(place[4][0]) for place in socket.getaddrinfo(host, 0)]
        except (OSError, UnicodeError, ValueError):
            return False  # ZeroMQ may know what it is: an interface
    return bool(found) and all(_is_loopback(each) for each in found)


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return bool((getattr(found, "ipv4_mapped", None) or found).is_loopback)
