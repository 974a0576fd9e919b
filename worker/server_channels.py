"""ServerChannels: the ways a worker has found to its servers, and the memory it shares with those of its own host."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field

import zmq

from ps.errors import Unshared
from ps.protocol.codec import encode
from ps.protocol.dial import look
from ps.protocol.membership import Peer
from ps.protocol.messages import Identify
from ps.protocol.segment import MappedView, Segment
from ps.protocol.transport import Socket, choose
from ps.protocol.worker_memory import WorkerMemory
from ps.worker.server_channel import ServerChannel, ZmqChannel
from ps.worker.shm_channel import ShmChannel

log = logging.getLogger("ps.worker")


@dataclass(slots=True)
class ServerChannels:
    """A channel to each server, by rank."""

    names: list[str] = field(default_factory=list)
    channels: list[ServerChannel] = field(default_factory=list)
    memory: WorkerMemory | None = None
    """What is shared with servers of this host; None when there are none."""
    view: MappedView | None = None
    """The weights where all servers keep them, if they can be read there."""
    identity: Identify | None = None
    """What the servers were told first, and are told again when they do not know a connection."""

    def close(self) -> None:
        """Close all channels."""
        for channel in self.channels:
            channel.close()


def open_channels(
    context: zmq.Context[Socket],
    servers: list[Peer],
    transport: str,
    nbytes: int,
    *,
    seeding: bool,
    viewing: bool,
    identity: Identify,
    sharing: bool = True,
) -> ServerChannels:
    """Connect to all servers by the transport that is wanted, or the fastest that works, and say who this is.

    ``nbytes`` is the model's size. With ``viewing`` the weights are read where the servers keep them, if they all keep
    them in one piece of memory that can be shared; the worker that is ``seeding`` the model offers it. Raises Refused,
    or Unshared, when the wanted transport does not reach a server. Without ``sharing`` everything travels.
    """
    found = ServerChannels(identity=identity)
    try:
        _open(found, context, servers, transport, nbytes, offer=seeding and viewing, identity=identity, sharing=sharing)
        memories = [channel.weights_memory if isinstance(channel, ShmChannel) else None for channel in found.channels]
        if (
            viewing
            and all(memories)
            and len({weights_memory.identity for weights_memory in memories if weights_memory}) == 1
            and memories[0]
        ):
            with contextlib.suppress(Unshared):  # then the weights are copied
                found.view = MappedView(memories[0], 0, nbytes, writable=False)
    except BaseException:
        found.close()
        raise
    return found


def _open(
    found: ServerChannels,
    context: zmq.Context[Socket],
    servers: list[Peer],
    transport: str,
    nbytes: int,
    *,
    offer: bool,
    identity: Identify,
    sharing: bool,
) -> None:
    ways = [choose(peer.addresses, transport, str(peer)) for peer in servers]
    if not sharing:
        ways = [[address for address in way if not address.startswith("shm:")] for way in ways]
    weights_memory: Segment | None = None
    lack = ""
    if any(address.startswith("shm:") for way in ways for address in way):
        try:
            found.memory = WorkerMemory.create(nbytes)
            weights_memory = Segment.create(nbytes) if offer else None
            if weights_memory is not None:
                weights_memory.reserve(0, nbytes)
        except Unshared as error:
            found.memory, lack = None, str(error)
    for peer, way in zip(servers, ways, strict=True):
        channel, address, reason = _first(context, way, found.memory, weights_memory, lack, identity)
        if channel is None:
            raise Unshared(f"{peer} cannot share memory with this process ({reason}). Try --transport auto")
        if reason:
            log.warning("%s: no shared memory (%s); using %s", peer, reason, address)
        elif sharing and transport == "auto" and not isinstance(channel, ShmChannel):
            level = logging.WARNING if peer.is_here else logging.INFO
            log.log(level, "%s: no shared memory (%s); using %s", peer, _absence(peer), address)
        if trouble := look(address, probing=True).trouble:
            log.warning(
                "%s cannot be reached from here: %s. Start it with another --host or --advertise", peer, trouble
            )
        found.names.append(f"{peer} at {address}")
        found.channels.append(channel)
    if not any(isinstance(channel, ShmChannel) for channel in found.channels):
        found.memory = None


def _first(
    context: zmq.Context[Socket],
    way: list[str],
    memory: WorkerMemory | None,
    weights_memory: Segment | None,
    reason: str,
    identity: Identify,
) -> tuple[ServerChannel | None, str, str]:
    """Return a channel by the first address that works, the address, and why no memory is shared where it might be."""
    for address in way:
        if not address.startswith("shm:"):
            channel = ZmqChannel(context, address)
            channel.send(encode(identity))
            return channel, address, reason if way[0].startswith("shm:") else ""
        if memory is not None:
            try:
                return ShmChannel.open(address.removeprefix("shm://"), memory, weights_memory, identity), address, ""
            except Unshared as error:
                reason = str(error)
    return None, "", reason


def _absence(peer: Peer) -> str:
    """Return why a server's socket for shared memory was not even tried."""
    offered = [address.removeprefix("shm://") for address in peer.addresses if address.startswith("shm:")]
    return f"{offered[0]} cannot be opened here" if offered else "it offers none"
