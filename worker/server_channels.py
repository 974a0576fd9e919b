"""ServerChannels: the ways a worker has found to its servers, and the memory it shares with those of its own host."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from dataclasses import field

import zmq

from ps.dataclass import dataclass
from ps.errors import Refused, ServerLost, Unshared
from ps.protocol.incoming import Incoming
from ps.protocol.membership import Peer
from ps.protocol.messages import Identify
from ps.protocol.segment import MappedView, Segment
from ps.protocol.sockets import Socket
from ps.protocol.transports.channel import ServerChannel
from ps.protocol.transports.registry import choose, fast_for, of_address, shares_memory
from ps.protocol.transports.transport import Sharing
from ps.protocol.worker_memory import Sections, WorkerMemory

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
    members: dict[int, int] = field(default_factory=dict)
    """Rank -> the member that has it."""
    home: tuple[int, int] | None = None
    """What that memory is known by."""
    identity: Identify | None = None
    """What the servers were told first, and are told again when they do not know a connection."""
    nbytes: int = 0
    """Of the model."""
    servers: list[int] = field(default_factory=list)
    """Their ranks; those of as many servers from 0 on where nothing is said."""

    @property
    def ranks(self) -> list[int]:
        """The servers' ranks, one for each channel."""
        return self.servers or list(range(len(self.channels)))

    @property
    def incoming(self) -> list[Incoming]:
        """What comes on the channels, where some thread has to look at it."""
        return [channel.incoming for channel in self.channels if channel.incoming is not None]

    def close(self) -> None:
        """Close all channels."""
        for channel in self.channels:
            channel.close()


@dataclass(frozen=True, slots=True)
class ToShare:
    """What a worker would share with servers of its host: memory for a buffer of ``nbytes``, if for any."""

    nbytes: int
    sections: Sections | None = None
    """Where it is that of a part of the model, see ``WorkerMemory``."""
    seeding: bool = False
    """Whether this worker gives the first values: then it offers memory for the weights."""
    viewing: bool = False
    """Whether the weights are read where the servers keep them, if they all do in one piece that can be shared."""
    sharing: bool = True
    """Whether there is any; else everything travels."""

    @property
    def nothing(self) -> ToShare:
        """The same for one with whom everything travels."""
        return dataclasses.replace(self, sharing=False)


def open_channels(
    context: zmq.Context[Socket], servers: list[Peer], transport: str, shared: ToShare, *, identity: Identify
) -> ServerChannels:
    """Connect to all servers by the transport that is wanted, or the fastest that works, and say who this is.

    Raises Refused, or Unshared, when the wanted transport does not reach a server.
    """
    members = {peer.rank: peer.member for peer in servers}
    found = ServerChannels(identity=identity, members=members, nbytes=shared.nbytes)
    ways = [fast_for(shared.nbytes, choose(peer.addresses, transport, str(peer))) for peer in servers]
    if not shared.sharing:
        ways = [[address for address in way if not shares_memory(address)] for way in ways]
    given = Sharing()
    if any(shares_memory(address) for way in ways for address in way):
        given = _shared(shared)
    try:
        for peer, way in zip(servers, ways, strict=True):
            channel, address, reason = _first(context, way, identity, given)
            if channel is None:
                raise Unshared(f"{peer} cannot share memory with this process ({reason}). Try --transport auto")
            found.names.append(f"{peer} at {address}")
            found.channels.append(channel)
            found.servers.append(peer.rank)
            _tell(peer, address, reason, wondering=shared.sharing and transport == "auto" and not channel.shares_memory)
            if channel.trouble:
                log.warning(
                    "%s cannot be reached from here: %s. Start it with another --host or --advertise",
                    peer,
                    channel.trouble,
                )
        if any(channel.shares_memory for channel in found.channels):
            found.memory = given.memory
        if shared.viewing:
            memories = [channel.weights_memory for channel in found.channels]
            found.view = _view(memories, shared.nbytes)
            found.home = memories[0].identity if found.view is not None and memories[0] is not None else None
        if found.memory is not None and found.view is None:
            found.memory.reserve("weights")
    except BaseException:
        found.close()
        raise
    return found


def open_another(
    context: zmq.Context[Socket], peer: Peer, transport: str, found: ServerChannels
) -> tuple[str, ServerChannel] | None:
    """Connect to a server that has come since; it gets the memory that the others have. None where that cannot be.

    Where the weights are read in the servers' memory, it is offered that one too.
    """
    assert found.identity is not None
    first = found.channels[0].weights_memory if found.view is not None and found.channels else None
    try:
        way = _way_since(peer, transport, found)
        channel, address, reason = _first(context, way, found.identity, Sharing(found.memory, first))
    except Refused as error:
        channel, reason = None, str(error)
    if channel is None:
        log.warning("%s cannot be reached from here: %s", peer, reason or "it offers no way that can be taken")
        return None
    found.names.append(f"{peer} at {address}")
    found.channels.append(channel)
    found.servers.append(peer.rank)
    return found.names[-1], channel


def follow_servers(
    context: zmq.Context[Socket],
    servers: Iterable[Peer],
    transport: str,
    channels: ServerChannels,
    replace: Callable[[int, str, ServerChannel], None],
) -> bool:
    """Have ``channels`` go on with the processes that are servers by now, where others were; return whether any was.

    ``replace`` is told of the rank, name and channel of each. Raises Refused when one cannot be reached, and ServerLost
    where the weights are read where servers keep them, and this one has no such memory.
    """
    found = False
    for peer in servers:
        if channels.members.get(peer.rank) == peer.member:
            continue
        channel = _reopen(context, peer, transport, channels)
        if channel is None:
            continue
        found = True
        log.warning("%s goes on for the server before it", peer)
        channels.channels[peer.rank], channels.members[peer.rank] = channel, peer.member
        replace(peer.rank, channels.names[peer.rank], channel)
    return found


def _reopen(context: zmq.Context[Socket], peer: Peer, transport: str, channels: ServerChannels) -> ServerChannel | None:
    """Return a channel to a server; None where it has to be one of memory and there is nobody now: it may be gone."""
    assert channels.identity is not None
    way = _way_since(peer, transport, channels)
    if channels.view is not None and peer.is_here:
        way = [address for address in way if shares_memory(address)]
    channel, address, reason = _first(context, way, channels.identity, Sharing(channels.memory))
    if channel is None and channels.view is not None and peer.is_here:
        return None
    if channel is None:
        raise ServerLost(f"{peer}, which goes on for another one, cannot be reached ({reason or 'no way leads there'})")
    memory = channel.weights_memory
    if channels.view is not None and (memory is None or memory.identity != channels.home):
        channel.close()
        raise ServerLost(f"{peer} goes on for another server, but without the memory that weights are read from here")
    channels.names[peer.rank] = f"{peer} at {address}"
    return channel


def _way_since(peer: Peer, transport: str, found: ServerChannels) -> list[str]:
    """Return the addresses of a server that has come since, in order: by memory only where others have some."""
    way = fast_for(found.nbytes, choose(peer.addresses, transport, str(peer)))
    return way if found.memory is not None else [address for address in way if not shares_memory(address)]


def _shared(wanted: ToShare) -> Sharing:
    """Make the memory to share with servers."""
    nbytes = wanted.nbytes
    try:
        memory = WorkerMemory.create(nbytes, wanted.sections, in_place=wanted.viewing)
        weights = Segment.create(nbytes) if wanted.seeding and wanted.viewing else None
        if weights is not None:
            weights.reserve(0, nbytes)
    except Unshared as error:
        return Sharing(lack=str(error))
    return Sharing(memory, weights)


def _view(memories: list[Segment | None], nbytes: int) -> MappedView | None:
    """Return a view of the weights, if all servers keep them in one memory that can be mapped."""
    first = memories[0] if memories else None
    if first is None or any(memory is None or memory.identity != first.identity for memory in memories):
        return None
    try:
        return MappedView(first, 0, nbytes, writable=False)
    except Unshared:
        return None  # then the weights are copied


def _first(
    context: zmq.Context[Socket], way: list[str], identity: Identify, given: Sharing
) -> tuple[ServerChannel | None, str, str]:
    """Return a channel by the first address that works, the address, and why those before it do not."""
    reason = ""
    for address in way:
        try:
            return of_address(address).open(context, address, identity, given), address, reason
        except Unshared as error:
            reason = f"{reason}; {error}" if reason else str(error)
    return None, "", reason


def _tell(peer: Peer, address: str, reason: str, *, wondering: bool) -> None:
    """Say by which address a server was reached where a faster way might be had, and why that cannot."""
    if reason:
        log.warning("%s: no shared memory (%s); using %s", peer, reason, address)
    elif wondering:
        level = logging.WARNING if peer.is_here else logging.INFO
        log.log(level, "%s: no shared memory (%s); using %s", peer, _absence(peer), address)


def _absence(peer: Peer) -> str:
    """Return why a server's socket for shared memory was not even tried."""
    offered = [address.partition("://")[2] for address in peer.addresses if shares_memory(address)]
    return f"{offered[0]} cannot be opened here" if offered else "it offers none"
