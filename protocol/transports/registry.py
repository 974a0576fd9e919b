"""The transports by name, and which of a peer's addresses to take."""

from __future__ import annotations

import importlib

from ps.config.transport import TRANSPORTS
from ps.errors import Refused
from ps.protocol.sockets import Socket
from ps.protocol.transports.ipc import Ipc
from ps.protocol.transports.tcp import Tcp
from ps.protocol.transports.transport import Transport
from ps.protocol.unix_stream import is_fast_for

_made: dict[str, Transport] = {}


def transport(name: str) -> Transport:
    """Return the transport of a name. Raises KeyError when there is none."""
    place = TRANSPORTS[name].place
    if place not in _made:
        module, _, noun = place.partition(":")
        _made[place] = getattr(importlib.import_module(module), noun)()
    return _made[place]


def transports() -> list[Transport]:
    """Return all transports, the fastest first."""
    return [transport(name) for name in TRANSPORTS]


def of_address(address: str) -> Transport:
    """Return the transport of an address that ``choose`` returned."""
    return transport(address.partition("://")[0])


def shares_memory(address: str) -> bool:
    """Whether a worker hands memory over to the server at an address, so that no tensor travels."""
    traits = TRANSPORTS.get(address.partition("://")[0])
    return traits is not None and traits.shares_memory


def fast_for(nbytes: int, addresses: list[str]) -> list[str]:
    """Return addresses without those by which a model of so many bytes goes slower than by others."""
    found = [address for address in addresses if not address.startswith("unix://") or is_fast_for(nbytes)]
    return found or addresses


def is_for_all(address: str) -> bool:
    """Whether not only workers come in at an address of a server."""
    traits = TRANSPORTS.get(address.partition("://")[0])
    return traits is None or not (traits.shares_memory or traits.serves)


def connect(sock: Socket, address: str) -> None:
    """Connect a socket to an address of ours that ZeroMQ carries."""
    (Ipc() if address.startswith("ipc://") else Tcp()).connect(sock, address)


def choose(addresses: tuple[str, ...], wanted: str, peer: str) -> list[str]:
    """Return the addresses of a peer to try: those of the wanted transport that reach it, the fastest first.

    Raises Refused naming the peer when none does.
    """
    found = [
        address
        for way in transports()
        if wanted in ("auto", way.name, TRANSPORTS[way.name].serves)
        for address in addresses
        if address.startswith(f"{way.name}://") and way.reaches(address)
    ]
    if found:
        return found
    offered = ", ".join(addresses) or "nothing"
    raise Refused(f"{peer} cannot be reached by {wanted} from here; it offers {offered}. Try --transport auto")
