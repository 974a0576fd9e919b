"""Succession: whether a server process holds a part of the model, or is there to go on for one that does."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import zmq

from ps.config.job import JobConfig
from ps.protocol.messages import Message, View, Welcome
from ps.protocol.sockets import Socket
from ps.protocol.transports.listener import Listener
from ps.server.shard.checkpointing import ShardCheckpointing, stored_model
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.replication.primary import PrimaryShard
from ps.server.shard.replication.standby import Standby
from ps.server.shard.shard import Shard
from ps.trace import Trace

log = logging.getLogger("ps.server")


class Succession:
    """Of one server process. Nothing at all in a job without replicas."""

    def __init__(self, context: zmq.Context[Socket], poller: zmq.Poller, trace: Trace, threads: int) -> None:
        self._context, self._poller, self._trace, self._threads = context, poller, trace, threads
        self._standby: Standby | None = None
        self._rank: int | None = None
        """The rank that this process has taken over, if it has."""

    def shard(
        self, welcome: Welcome, view: View, job: JobConfig, saving: ShardCheckpointing, listeners: list[Listener]
    ) -> Shard | None:
        """Return the shard of this process; None while it is there to go on for another. Raises PeerLost."""
        about = welcome.member, welcome.job_id, job
        if welcome.rank < job.servers or not job.replicas:
            shard = saving.shard(welcome.rank, *about, self._trace, self._threads)
            return PrimaryShard(shard, welcome.member, awaits=True) if job.replicas else shard
        if self._standby is None:
            self._standby = Standby(
                self._context,
                self._poller,
                welcome,
                job,
                lambda rank: GradientShard(rank, self._trace, self._threads, stored_model(job)),
            )
        now, standby = time.monotonic(), self._standby
        if not standby.view(view, now):
            return None
        shard, self._rank, self._standby = standby.take_over(listeners), standby.rank, None
        log.warning("goes on as server %d, after %.0f ms", standby.rank, 1000 * (time.monotonic() - now))
        saving.save(shard, standby.rank, *about)
        return PrimaryShard(shard, welcome.member, awaits=False)

    def rank_of(self, welcome: Welcome) -> int:
        """Return the rank that this process has by now."""
        return welcome.rank if self._rank is None else self._rank

    @property
    def patience(self) -> float:
        """Seconds after which there is something to do, if no message comes."""
        return self._standby.patience if self._standby is not None else math.inf

    def turn(self) -> None:
        """Do what a standby has to do. Raises ReplicaDiverged or PeerLost."""
        if self._standby is not None:
            self._standby.turn(time.monotonic())

    def tick(self, now: float) -> list[Message]:
        """Return what a standby has to say to the scheduler. Raises PeerLost."""
        return self._standby.tick(now) if self._standby is not None else []

    def report(self) -> Mapping[str, Any]:
        """Return what the status shows of a standby."""
        return self._standby.report() if self._standby is not None else {}

    def close(self) -> None:
        """Let go of a line."""
        if self._standby is not None:
            self._standby.close()
