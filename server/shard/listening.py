"""Listening: by which transports a server can be reached here."""

from __future__ import annotations

from ps.protocol.transports.listener import Listener
from ps.protocol.transports.registry import transports
from ps.protocol.transports.transport import Place


def listen(place: Place, listeners: list[Listener]) -> dict[str, str]:
    """Listen by every transport that can be had here; return the addresses by its name.

    What is to be looked at goes into ``listeners``, whose closing is the caller's also where this raises.
    """
    addresses: dict[str, str] = {}
    for transport in transports():
        listening = transport.listen(place)
        if listening is None:
            continue
        addresses[transport.name] = listening.address
        if listening.listener is not None:
            listeners.append(listening.listener)
    return addresses
