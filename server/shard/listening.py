"""Listening: by which transports a server can be reached here, and what it says of that, and of its job."""

from __future__ import annotations

import logging

from ps.config.process import ProcessConfig
from ps.protocol.dial import doubts
from ps.protocol.messages import View
from ps.protocol.transports.listener import Listener
from ps.protocol.transports.registry import transports
from ps.protocol.transports.transport import Place

log = logging.getLogger("ps.server")


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


def warn_of_address(process: ProcessConfig, tcp: str, scheduler: str) -> None:
    """Say it where workers may not reach the address that they are told."""
    if process.advertise is None and (doubt := doubts(tcp, scheduler)):
        log.warning("workers are told to reach this server at %s, but %s", tcp, doubt)


def announce(before: View | None, view: View, rank: int) -> None:
    """Say what a new view means for this server, for people."""
    if before is None:
        log.info("joined the job as server %d", rank)
    if view.phase == "running" and (before is None or before.phase != "running"):
        log.info("the job begins: mode %s", view.job.get("mode"))
    if view.phase == "ended":
        log.info("the job has ended in good order")
