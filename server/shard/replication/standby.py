"""Standby: the process of a server that is there to go on for another one: its line to that, and the taking over.

It opens a line to its server as a worker does, and hands over memory for records where both are on one host. What that
server sends is acknowledged before it is worked off. When a view shows this process with the other one's rank, that one
is gone for all; only memory that both have could still be written to by one that stood still, so it is killed first.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import signal
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from ps.config.job import JobConfig
from ps.errors import BadMessage, PeerLost, Refused, ReplicaDiverged, Unshared
from ps.protocol.codec import decode, encode
from ps.protocol.membership import Peer, peers
from ps.protocol.messages import (
    Error,
    Identify,
    Message,
    ReplicaModel,
    ReplicaPing,
    ReplicaReady,
    ReplicaRequest,
    View,
    Waiting,
    Welcome,
)
from ps.protocol.ranges import MOST_RANK
from ps.protocol.segment import Segment
from ps.protocol.sockets import Socket
from ps.protocol.transports.channel import ServerChannel
from ps.protocol.transports.listener import Listener
from ps.protocol.transports.registry import choose, is_for_all, of_address, shares_memory
from ps.protocol.transports.transport import Sharing
from ps.protocol.worker_memory import WorkerMemory
from ps.server.job_key import JobKey
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.replication.backup import Backup, Record

log = logging.getLogger("ps.server")

AGAIN = 1.0
"""Seconds after which what was not answered is said again."""
DEATH = 2.0
"""Seconds within which a process ends that was killed."""
CHUNKS = 8
"""Chunks that may be on their way to a standby, at least."""


class Standby:
    """Of one server. Belongs to its process's one thread."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        poller: zmq.Poller,
        welcome: Welcome,
        job: JobConfig,
        make: Callable[[int], GradientShard],
    ) -> None:
        """``make`` returns the shard of a rank, without a model."""
        self.rank = welcome.rank - job.servers
        self._context, self._poller = context, poller
        self._welcome, self._job, self._make = welcome, job, make
        self._room = max(CHUNKS * job.chunk_bytes, job.window)
        self._channel: ServerChannel | None = None
        self._memory: WorkerMemory | None = None
        self._pidfd = -1
        self._primary: Peer | None = None
        self._backup = self._fresh()
        self._request = 0
        self._asked = self._said = -math.inf
        self._answered = False
        self._lost: float | None = None
        """Since when the line to the server is gone."""
        self._connections = 1
        """How often that has come about, which makes itself anew where ZeroMQ carries it."""

    def _fresh(self) -> Backup:
        shard = self._make(self.rank)
        shard.job = self._job
        return Backup(shard, self._welcome.member)

    @property
    def patience(self) -> float:
        """Seconds after which there is something to do, if no message comes."""
        return 0.0 if self._backup.busy else math.inf

    def report(self) -> Mapping[str, Any]:
        """Return what the status shows of it."""
        backup = self._backup
        state = "protecting" if backup.filled else "filling"
        return {
            "backup_of": self.rank,
            "replica": state,
            "replica_filled": round(backup.share, 3),
            "replica_lag": backup.received - backup.applied,
        }

    def view(self, view: View, now: float) -> bool:
        """Learn who has the rank now; return whether that is this process."""
        shown = {peer.rank: peer for peer in peers(view) if peer.role == "server"}
        primary = shown.get(self.rank)
        if primary is None:
            return False
        if primary.member == self._welcome.member:
            return True
        if self._primary is None or self._primary.member != primary.member:
            self._primary = primary
            self._open(now)
        return False

    # The line

    def _open(self, now: float) -> None:
        """Open a new line, and ask for all."""
        self.close()
        assert self._primary is not None
        self._backup, self._answered, self._lost = self._fresh(), False, None
        self._request += 1
        self._asked = now
        try:
            channel = self._connect(self._primary)
        except Refused as error:
            log.warning("%s cannot be reached: %s; it is tried again", self._primary, error)
            self._lost = now
            return
        self._channel, self._connections = channel, 1
        self._poller.register(channel.pollable, zmq.POLLIN)
        self._ask(channel)

    def _ask(self, channel: ServerChannel) -> None:
        has_weights = channel.weights_memory is not None
        channel.send(encode(ReplicaRequest(self._request, self._welcome.member, self._room, has_weights)))

    def _connect(self, peer: Peer) -> ServerChannel:
        sharing, reason = self._sharing(), ""
        for address in choose(peer.addresses, self._job.transport, str(peer)):
            if not (shares_memory(address) or is_for_all(address)):
                continue
            try:
                channel = of_address(address).open(self._context, address, self._identity(), sharing)
            except Unshared as error:
                reason = str(error)
                continue
            self._memory = sharing.memory if channel.shares_memory else None
            self._pidfd = channel.process() if channel.shares_memory else -1
            log.info("has a copy of what %s has, by %s", peer, address)
            return channel
        raise Refused(reason)

    def _sharing(self) -> Sharing:
        try:
            memory = WorkerMemory(Segment.create(WorkerMemory.size(self._room)), self._room)
            memory.reserve("weights")
            return Sharing(memory, apart=True)
        except Unshared as error:
            return Sharing(lack=str(error))

    def _identity(self) -> Identify:
        """Return what the server is told: servers know workers by their ranks, so none of these is said."""
        w, rank = self._welcome, MOST_RANK - self.rank
        proof = JobKey(w.job_id, w.key).proof(w.member, rank, w.number)
        return Identify(0, w.job_id, w.member, rank, w.number, proof)

    def close(self) -> None:
        """Let go of the line."""
        if self._channel is not None:
            with contextlib.suppress(KeyError):
                self._poller.unregister(self._channel.pollable)
            self._channel.close()
            self._channel = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    # What comes

    def turn(self, now: float) -> None:
        """Take what is here, acknowledge it, and work one record off. Raises ReplicaDiverged or PeerLost."""
        channel, backup = self._channel, self._backup
        if channel is not None and self._lost is None:
            before = backup.received
            for header in channel.receive():
                self._take(channel, decode(header), now)
                if self._channel is not channel:
                    return
            self._introduce(channel)
            if channel.closed and self._lost is None:
                self._poller.unregister(channel.pollable)
                self._lost = now
            if backup.received != before:
                self._acknowledge()
        if backup.busy:
            try:
                backup.work()
            except BadMessage as error:
                raise ReplicaDiverged(f"{self._primary} sent what cannot be: {error}") from None
            if not backup.busy or backup.applied % 4 == 0:
                self._acknowledge()

    def _introduce(self, channel: ServerChannel) -> None:
        """Have it said again who this is, if the connection is another one: the server knows only the one before."""
        if (incoming := channel.incoming) is not None:
            incoming.look()
            if incoming.handshake.successes > self._connections:
                self._connections, self._answered = incoming.handshake.successes, False

    def _take(self, channel: ServerChannel, message: Any, now: float) -> None:
        channel.check(message)
        match message:
            case ReplicaModel() if not message.layout:
                self._open(now)
            case ReplicaPing():
                self._answered = True
                self._backup.demand(message.number)
                self._acknowledge()
            case Error() | Waiting():
                log.debug("%s says %r", self._primary, message)
            case _ if isinstance(message, Record):
                self._answered = True
                self._backup.take(message, self._payload(channel, message))
            case _:
                raise ReplicaDiverged(f"{self._primary} says {message!r}, which is no record")

    def _payload(self, channel: ServerChannel, message: Any) -> Any:
        if not message.payload:
            return None
        if self._memory is None:
            return channel.take()
        ring = self._memory.array("weights")
        if message.place + message.nbytes > ring.nbytes:
            raise ReplicaDiverged(f"{self._primary} has written beyond the memory that it was given")
        return ring[message.place : message.place + message.nbytes]

    def _acknowledge(self) -> None:
        if self._channel is not None and not self._channel.closed:
            self._channel.send(encode(self._backup.acknowledgement))

    def tick(self, now: float) -> list[Message]:
        """Say again what was not answered; return what the scheduler is told. Raises PeerLost."""
        backup, channel = self._backup, self._channel
        if self._lost is not None:
            self._regain(self._lost, now)
        elif channel is not None and not self._answered and now - self._asked > AGAIN:
            self._asked = now
            channel.send(encode(self._identity()))
            self._ask(channel)
        if backup.filled and self._primary is not None and self._lost is None and now - self._said > AGAIN:
            self._said = now
            return [ReplicaReady(self._welcome.member, self._primary.member)]
        return []

    def _regain(self, lost: float, now: float) -> None:
        """Without a line one that has not all asks anew; one that has waits to be told who goes on.

        If its server lives, that waits as well, until this process is not shown any more.
        """
        if not self._backup.filled:
            if now - self._asked > AGAIN:
                self._open(now)
        elif now - lost > self._job.heartbeat_timeout + AGAIN:
            raise PeerLost(f"the line to {self._primary} broke, and it lives: this standby is to be filled anew")

    # Taking over

    def take_over(self, listeners: list[Listener]) -> GradientShard:
        """Go on for the server, which is gone. Raises ReplicaDiverged, or PeerLost if it cannot be made sure of."""
        channel, backup = self._channel, self._backup
        if channel is None or not backup.filled:
            raise PeerLost(f"this standby was told to go on as server {self.rank}, and has not all that that had")
        if channel.shares_memory:
            self._make_sure(channel)
        for header in channel.receive() if self._lost is None else ():
            message = decode(header)
            channel.check(message)
            if isinstance(message, Record):
                backup.take(message, self._payload(channel, message))
        shard, memory = backup.finish(), channel.weights_memory
        if memory is not None and shard.layout is not None and memory.size >= shard.layout.nbytes:
            array = memory.array(0, shard.layout.nbytes)
            shard.show_in(array)
            for listener in listeners:
                listener.keep_weights_in(memory, array)
        self.close()
        return shard

    def _make_sure(self, channel: ServerChannel) -> None:
        """See to it that the former server writes to shared memory no more."""
        if self._pidfd < 0:
            raise PeerLost(f"{self._primary} may still write to shared memory, and its process is not to be seen here")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(DEATH * 1000):
            raise PeerLost(f"{self._primary} does not end, and may still write to shared memory")
