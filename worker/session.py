"""Session: a worker's place in a job: joining, coming in, meeting the others, leaving. No tensors."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import zmq

from ps import sigterm
from ps.config.job import JobConfig
from ps.config.pipeline import awaits
from ps.config.process import ProcessConfig
from ps.errors import JobEnded, PeerLost, ServerLost, ServersMoved, StateError
from ps.protocol.address_file import scheduler_address
from ps.protocol.guarded_context import GuardedContext
from ps.protocol.incoming import Incoming
from ps.protocol.membership import HostCrowd, Membership, Peer, is_spare, peers
from ps.protocol.messages import Identify, Message, View
from ps.protocol.security import Security
from ps.protocol.sockets import Socket
from ps.trace import OFF, Trace
from ps.worker import waits
from ps.worker.exchange import Exchange
from ps.worker.goodbye import fitted, say_goodbye
from ps.worker.interrupt import HOLD
from ps.worker.scheduler_client import Answer, SchedulerClient
from ps.worker.server_changes import ServerChanges
from ps.worker.server_channels import ServerChannels, ToShare, open_channels
from ps.worker.stop_point import StopPoint
from ps.worker.traffic import Traffic

log = logging.getLogger("ps.worker")

NAP = 0.1
"""Seconds between looks at the membership while a worker has nothing to do."""
MOST_PAUSE = 60.0
"""Seconds that a scheduler or a server can have a client do nothing, at most."""
_MOST_SHOWN = 5
"""Members that a message names, at most."""


class Session:
    """One worker among the members of a job."""

    def __init__(self, process: ProcessConfig, script: Mapping[str, Any], trace: Trace = OFF) -> None:
        """Join and wait until the job is complete. Raises ConnectTimeout, Refused or ConfigError."""
        self.report: Callable[[], Mapping[str, Any]] = dict
        """Returns what the status shows of this worker; called on another thread."""
        self._exchange: Exchange | None = None
        self._servers: list[int] = []
        """The servers that the exchange is with, where they may be replaced."""
        self._as = 0
        """The member that this process was when the exchange began."""
        self.trace = trace
        self.tend: Callable[[], None] = lambda: None
        """Called now and then while this worker waits for servers."""
        self.peer_wait: Callable[[], waits.PeerWait | None] = lambda: None
        """Returns the worker that this one waits for, if it does; called on another thread."""
        self.data_wait: Callable[[], float | None] = lambda: None
        """Returns since when this worker waits for more batches, if it does; called on another thread."""
        self._paused: float | None = None
        self.farewell: Callable[[str], None] = lambda failure: None
        """Called before this worker leaves, with what has gone wrong, if anything has."""
        self._lines: list[Incoming] = []
        """What comes over lines to other workers."""
        self._closed = False
        self.rank = -1
        self.security = Security.of(process, "worker")
        self._context: zmq.Context[Socket] = GuardedContext.of(self.security)
        self.scheduler, job_id = scheduler_address(process)
        self.process = dataclasses.replace(process, scheduler=self.scheduler)
        membership = self._membership = Membership(
            "worker",
            self.scheduler,
            rank=process.rank,
            suggested=process.suggested_rank,
            addresses=(),
            script=script,
            connect_timeout=process.connect_timeout,
            now=time.monotonic(),
            job_id=job_id,
        )
        self._scheduler = SchedulerClient(self._context, membership, self._status)
        self.cut_plan, self.client = self._scheduler.cut_plan, self._scheduler
        try:
            view = self._scheduler.wait_until(self._begun, self._absent, process.connect_timeout)
            self.job = JobConfig.from_dict(view.job)
        except BaseException:
            self._abandon({})
            raise
        log.info("joined the job as worker %d: mode %s", self.rank, self.job.mode)

    def _begun(self, view: View) -> bool:
        """Whether the job runs and this worker has a place in it; it may be about to join it anew. Raises JobEnded."""
        identity = self._scheduler.identity
        if identity is not None:
            self.rank = identity.rank
        if identity is None or view.phase == "waiting":
            return False
        if view.phase == "ended":
            raise JobEnded("the job has ended in good order, and this spare was not needed")
        return not is_spare(view, identity.rank)

    def _absent(self, view: View | None, seconds: float) -> str:
        if view is not None and view.phase == "running" and is_spare(view, self.rank):
            return f"waiting {seconds:.0f} s as a spare: all places are taken"
        return waits.at_start(view, seconds)

    @property
    def barriers(self) -> int:
        """How many barriers the worker had met the others in whose place this one has taken."""
        seat = self._scheduler.seat
        return seat.barriers if seat else 0

    @property
    def member(self) -> int:
        """This worker's id in the job."""
        return self._scheduler.member

    @property
    def job_id(self) -> str:
        """What this job is called, and no other."""
        identity = self._scheduler.identity
        return f"{identity.job_id:x}" if identity else ""

    @property
    def epoch(self) -> int:
        """The epoch of the latest view of the members; 0 before there is one."""
        view = self._scheduler.view
        return view.epoch if view else 0

    @property
    def exchange(self) -> Exchange:
        """The exchange with the servers. Raises StateError before ``connect`` and after ``leave``."""
        if self._closed:
            raise StateError("this connection is closed")
        if self._exchange is None:
            raise StateError("no parameters yet: call kv.init(params) first")
        return self._exchange

    @property
    def connected(self) -> bool:
        """Whether there is an exchange."""
        return self._exchange is not None and not self._closed

    def peers(self, role: str) -> list[Peer]:
        """Return a role's live members by rank as far as this worker knows: no spares, but whose place is kept."""
        job = self.job
        has_place = job.has_place if role == "worker" else lambda rank: rank < job.servers or not job.replicas
        found = (peer for peer in self._shown if peer.role == role and has_place(peer.rank))
        return sorted(found, key=lambda peer: peer.rank)

    @property
    def awaits_spares(self) -> bool:
        """Whether a worker that is gone may be replaced: the job announces spares, or has one."""
        return awaits(self.job, (peer.rank for peer in self._shown if peer.role == "worker"))

    @property
    def _shown(self) -> tuple[Peer, ...]:
        view = self._scheduler.view
        return peers(view) if view else ()

    @property
    def neighbours(self) -> int:
        """How many workers share this host, this one included: as if all did, in a federated job with a server here."""
        if self.job.federated:
            return self.job.workers if any(peer.is_here for peer in self.peers("server")) else 1
        return max(1, sum(peer.is_here for peer in self.peers("worker")))

    def _status(self) -> dict[str, Any]:
        scheduler = getattr(self, "_scheduler", None)  # its thread may ask before it is here
        asking = scheduler.waiting if scheduler is not None else None
        return {
            **self.report(),
            **(scheduler.cut_plan.data.report() if scheduler is not None else {}),
            **({"terminated": True} if sigterm.asked() else {}),
            **waits.shown(self._exchange, self.peer_wait(), asking, self._paused, self.data_wait()),
        }

    def _check(self) -> None:
        """Raise when this worker is out of the job, or waits for ever because nobody can say who is gone."""
        self.check()
        self.tend()
        if self.job.replicas and self.connected:
            self._changes.replace(self.exchange)
        if self.moved:
            raise ServersMoved("a server was replaced by another process, or this one has joined anew")
        exchange, limit = self.exchange, self.job.start_timeout
        if exchange.since is not None and self._scheduler.silence > limit and time.monotonic() - exchange.since > limit:
            who = exchange.awaited
            raise PeerLost(f"waited {limit:g} s for {who}, and the scheduler, which would know, is silent as well")

    def check(self) -> None:
        """Raise what has ended this worker's membership, if anything has."""
        self._scheduler.check()

    @property
    def silence(self) -> float:
        """Seconds since the scheduler was last heard."""
        return self._scheduler.silence

    def serve(self, function: Callable[[], None]) -> None:
        """Have a function called now and then while this worker waits for the scheduler."""
        self._scheduler.tend = function

    def watch(self, incoming: list[Incoming]) -> None:
        """Look also at what comes on these sockets, while the script computes. Needs ``connect`` before."""
        self._lines = incoming
        self._scheduler.watch([*self._from_servers, *incoming])

    @property
    def context(self) -> zmq.Context[Socket]:
        """What sockets are made in that live no longer than this session."""
        return self._context

    @property
    def moved(self) -> bool:
        """Whether a server that may be replaced was replaced, or is gone, or this client has joined again."""
        if not self._servers:
            return False
        return self._as != self.member or self._servers != [peer.member for peer in self.peers("server")]

    # Coming

    def connect(self, traffic: Traffic, shared: ToShare) -> ServerChannels:
        """Connect to all servers, for what may be ``shared``, see ``open_channels``; after ServersMoved all anew."""
        identity = self._identify()
        servers = self.peers("server")
        if not self._complete(servers):
            shown = ", ".join(map(str, servers[:_MOST_SHOWN])) or "none"
            raise ServerLost(f"the job has {self.job.servers} servers, and of them the scheduler knows {shown}")
        if self.job.federated:
            self._servers, self._as = [peer.member for peer in servers], identity.member
        channels = open_channels(
            self._context,
            servers,
            self.job.transport,
            shared if self.job.compress == "none" and not self.job.federated else shared.nothing,
            identity=identity,
        )
        self._heed(channels.incoming)
        to, servers_now = (self._context, self.job.transport, channels), partial(self.peers, "server")
        changes = self._changes = ServerChanges(self._membership, *to, self._heed, servers_now)
        how = ", reads the weights where they are" if channels.view else ""
        log.info("rank %d uses %s%s", self.rank, ", ".join(channels.names), how)
        self._exchange = Exchange(
            identity.member,
            channels,
            window=self.job.window,
            silence_limit=max(3 * self.job.heartbeat_timeout, 10.0),
            check=self._check,
            traffic=traffic,
            rank=self.rank,
            trace=self.trace,
            # else it would have told of their death
            alive=lambda: self._scheduler.silence < self.job.heartbeat_timeout,
            reach=changes.reach,
            renew=changes.renew,
            crowd=HostCrowd(lambda: self._scheduler.view),
        )
        if not (self.job.federated or self.job.replicas):
            changes.begin(self._exchange)
        return channels

    def _heed(self, incoming: list[Incoming]) -> None:
        self._from_servers = incoming
        self.watch(self._lines)

    def _identify(self) -> Identify:
        """Return what the servers are told; where those may be replaced, once all are there."""
        while True:
            if self.job.federated:
                self._await_servers()
            if (identity := self._scheduler.identity) is not None:
                return identity

    def _await_servers(self) -> None:
        """Wait until all servers are there, by the word of a scheduler that has not fallen silent itself."""
        wanted, limit = self.job.servers, self.job.start_timeout

        def notice(view: View | None, seconds: float) -> str:
            return f"waiting {seconds:.0f} s for {wanted - len(self.peers('server'))} of {wanted} servers to come back"

        self._scheduler.wait_until(
            lambda view: self.member > 0 and self._complete(self.peers("server")) and self._scheduler.silence <= limit,
            notice,
            limit,
        )

    def _complete(self, servers: list[Peer]) -> bool:
        """Whether these, by rank, are the job's servers: chunks belong to ranks, unless they have moved."""
        ranks, dealt = {peer.rank for peer in servers}, 0 if self._membership.placed else self.job.servers
        return ranks >= set(range(dealt)) and len(ranks) == len(servers) > 0

    def disconnect(self) -> None:
        """Close the exchange; ``connect`` opens another."""
        self._servers = []
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def pause(self, seconds: float) -> None:
        """Do nothing for so long, unless something ends this worker's membership; at most MOST_PAUSE.

        Whoever is told to come back later than that may come back earlier: it is told again.
        """
        self._paused = time.monotonic()
        until = self._paused + min(seconds, MOST_PAUSE)
        try:
            while (left := until - time.monotonic()) > 0:
                self._scheduler.check()
                sigterm.check()
                HOLD.check()
                time.sleep(min(left, NAP))
        finally:
            self._paused = None

    def number(self) -> int:
        """Return a new number for a request to the scheduler."""
        return self._scheduler.number()

    def ask(
        self, make: Callable[[int, int], Message], kind: type[Answer], waiting: str, number: int | None = None
    ) -> Answer:
        """Ask the scheduler; ``make`` takes the request's number and this member's id.

        With the ``number`` of a request that was interrupted it is that request, whether it was answered or not.
        Raises as the scheduler client does, and StateError after ``leave``.
        """
        if self._closed:
            raise StateError("this connection is closed")
        return self._scheduler.request(make, kind, waiting, self.job.start_timeout, number=number)

    # The end of training

    @property
    def stop_point(self) -> StopPoint:
        """Where training ends, as far as this worker knows."""
        return self._scheduler.stop_point

    def begin(self, clock: int) -> bool:
        """Whether the step after ``clock`` of them is this worker's to take. It waits while that is being decided,
        and while there are too few workers."""
        if self._scheduler.missing:
            self._scheduler.await_quorum(self.job.start_timeout)
        verdict = self._scheduler.stop_point.begin(clock)
        return self._scheduler.await_stop(clock, self.job.start_timeout) if verdict is None else verdict

    def stop(self, clock: int, reason: str) -> None:
        """Have training end everywhere, after ``clock`` steps of this worker."""
        if not self._scheduler.stop(clock, reason):
            log.warning("the scheduler is silent; training goes on, and ends when it hears that it is to: %s", reason)

    # Going

    def leave(self, failure: str = "") -> None:
        """Say goodbye to all and close everything; never raises PSError. Done once, however often it is called."""
        if self._closed:
            return
        try:
            farewell, self.farewell = self.farewell, lambda failure: None
            farewell(failure)
            if self._exchange is not None:
                say_goodbye(self._exchange, self._scheduler, moved=self.moved)
        finally:
            self._abandon({**self._status(), **({"failure": fitted(failure)} if failure else {})})

    def _abandon(self, report: dict[str, Any] | None = None) -> None:
        """Close everything, with a goodbye if there is a report to go with it."""
        self._closed = True
        if report is None:
            self._scheduler.close()
        else:
            self._scheduler.leave(report)
        if self._exchange is not None:
            self._exchange.close()
        self._context.destroy(linger=0)
