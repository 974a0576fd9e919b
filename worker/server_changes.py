"""ServerChanges: servers that come and go, and chunks that move, while a worker's exchange with the servers goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import zmq

from ps.protocol.incoming import Incoming
from ps.protocol.membership import Membership, Peer
from ps.protocol.sockets import Socket
from ps.protocol.transports.channel import ServerChannel
from ps.worker.exchange import Exchange
from ps.worker.server_channels import ServerChannels, follow_servers, open_another

log = logging.getLogger("ps.worker")


class ServerChanges:
    """Has an exchange go by the latest view, on its own thread, whenever there is a new one."""

    def __init__(
        self,
        membership: Membership,
        context: zmq.Context[Socket],
        transport: str,
        channels: ServerChannels,
        heed: Callable[[list[Incoming]], None],
        servers: Callable[[], list[Peer]],
    ) -> None:
        """``channels`` are those that there are; ``heed`` takes what comes on them, to be looked at by some thread.

        ``servers`` returns those of the latest view: no standbys.
        """
        self._membership = membership
        self._context = context
        self._transport = transport
        self._channels = channels
        self._heed = heed
        self._servers = servers
        self._exchange: Exchange | None = None

    def begin(self, exchange: Exchange) -> None:
        """From now on have this exchange go by each view."""
        self._exchange = exchange
        self._membership.noticed = self._note
        self.renew()

    def _note(self) -> None:
        """There is a new view; called on the scheduler's thread."""
        if self._exchange is not None:
            self._exchange.changed = True

    def renew(self) -> None:
        """Go by the latest view."""
        if (exchange := self._exchange) is None:
            return
        exchange.changed = False  # first: a view that comes meanwhile sets it again
        view, where = self._membership.view, self._membership.placed
        if view is not None and view.phase == "running":
            exchange.follow({peer.rank for peer in self._servers()}, where)

    def reach(self, rank: int) -> tuple[str, ServerChannel] | None:
        """Connect to the server of a rank, which has come since; None where none is known, or none can be reached."""
        peer = next((peer for peer in self._servers() if peer.rank == rank), None)
        found = None if peer is None else open_another(self._context, peer, self._transport, self._channels)
        if found is not None:
            self._heed(self._channels.incoming)
            log.info("a server has come: %s", found[0])
        return found

    def replace(self, exchange: Exchange) -> None:
        """Have an exchange go on with the standbys that are servers by now. Raises Refused and ServerLost."""
        about = self._context, self._servers(), self._transport, self._channels, exchange.replace
        if follow_servers(*about):
            self._heed(self._channels.incoming)
