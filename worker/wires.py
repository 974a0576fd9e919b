"""Wires: the ways a worker has found to its servers, and the memory it shares with those of its own host."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import zmq

from ps.errors import Unshared
from ps.protocol.membership import Peer
from ps.protocol.memory import WorkerMemory
from ps.protocol.segment import Segment, Window
from ps.protocol.transport import Socket, choose
from ps.worker.shm import ShmWire
from ps.worker.wire import Wire, ZmqWire

log = logging.getLogger("ps.worker")


@dataclass(slots=True)
class Wires:
    """A wire to each server, by rank."""

    names: list[str] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    memory: WorkerMemory | None = None
    """What is shared with servers of this host; None when there are none."""
    window: Window | None = None
    """The weights where all servers keep them, if they can be read there."""

    def close(self) -> None:
        """Close all wires."""
        for wire in self.wires:
            wire.close()


def open_wires(
    context: zmq.Context[Socket],
    servers: list[Peer],
    transport: str,
    nbytes: int,
    *,
    seeding: bool,
    viewing: bool,
) -> Wires:
    """Connect to all servers by the transport that is wanted, or the fastest that works.

    ``nbytes`` is the model's size. With ``viewing`` the weights are read where the servers keep them, if they all keep
    them in one piece of memory that can be shared; the worker that is ``seeding`` the model offers it. Raises Refused,
    or Unshared, when the wanted transport does not reach a server.
    """
    found = Wires()
    try:
        _open(found, context, servers, transport, nbytes, seeding and viewing)
        homes = [wire.home if isinstance(wire, ShmWire) else None for wire in found.wires]
        if viewing and all(homes) and len({home.identity for home in homes if home}) == 1 and homes[0]:
            found.window = Window(homes[0], 0, nbytes, writable=False)
    except BaseException:
        found.close()
        raise
    return found


def _open(
    found: Wires, context: zmq.Context[Socket], servers: list[Peer], transport: str, nbytes: int, offer: bool
) -> None:
    ways = [choose(peer.addresses, transport, str(peer)) for peer in servers]
    home: Segment | None = None
    reason = ""
    if any(address.startswith("shm:") for way in ways for address in way):
        try:
            found.memory = WorkerMemory.create(nbytes)
            home = Segment.create(nbytes) if offer else None
            if home is not None:
                home.reserve(0, nbytes)
        except Unshared as error:
            found.memory, reason = None, str(error)
    shared = False
    for peer, way in zip(servers, ways, strict=True):
        wire: Wire | None = None
        for address in way:
            if not address.startswith("shm:"):
                wire = ZmqWire(context, address)
            elif found.memory is not None:
                try:
                    wire = ShmWire.open(address.removeprefix("shm://"), found.memory, home)
                    shared = True
                except Unshared as error:
                    reason = str(error)
            if wire is not None:
                if reason and not address.startswith("shm:"):
                    log.warning("%s: no shared memory (%s); using %s", peer, reason, address)
                found.names.append(f"{peer} at {address}")
                found.wires.append(wire)
                break
        else:
            raise Unshared(f"{peer} cannot share memory with this process ({reason}). Try --transport auto")
    if not shared:
        found.memory = None
