"""The server process: sockets and time around a Shard."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from ps import about, descriptors, native, sigterm
from ps.config.job import JobConfig
from ps.config.process import ProcessConfig
from ps.cores import cores, threads_for
from ps.errors import BadMessage
from ps.memory import collect_seldom, keep_freed_memory
from ps.protocol.address_file import scheduler_address
from ps.protocol.addresses import advertised
from ps.protocol.codec import decode, encode
from ps.protocol.descriptor_guard import DescriptorGuard
from ps.protocol.dial import Dial
from ps.protocol.directory import PrivateDirectory
from ps.protocol.error_codes import failure
from ps.protocol.inbox import Inbox
from ps.protocol.incoming import Incoming
from ps.protocol.membership import HostCrowd, Membership
from ps.protocol.messages import (
    CheckpointOrder,
    Identify,
    Introduce,
    Keys,
    Leave,
    Mark,
    MaskSum,
    MoveOrder,
    Peek,
    Placed,
    Received,
    Share,
    SharePart,
    View,
    Welcome,
)
from ps.protocol.seldom import Seldom
from ps.protocol.sockets import open_socket
from ps.protocol.spin import LONGEST, Spin
from ps.protocol.transports.listener import Listener
from ps.protocol.transports.transport import Place
from ps.server.job_key import JobKey
from ps.server.send import SCHEDULER, Line, Origin, Send
from ps.server.shard.alone import demand_company
from ps.server.shard.callers import Callers
from ps.server.shard.checkpoint import kept_rank
from ps.server.shard.checkpointing import ShardCheckpointing
from ps.server.shard.early import Early
from ps.server.shard.farewell import Farewell
from ps.server.shard.federated_shard import FederatedShard
from ps.server.shard.followers import Followers
from ps.server.shard.gate import Gate
from ps.server.shard.last_look import send_last
from ps.server.shard.listening import announce, listen, warn_of_address
from ps.server.shard.moves import ServerMoves
from ps.server.shard.outgoing import Outgoing
from ps.server.shard.replication.succession import Succession
from ps.server.shard.shard import Order, Shard
from ps.state_file import StateFile
from ps.threads import ThreadTeam
from ps.trace import start
from ps.xp import HostArray

log = logging.getLogger("ps.server")

TICK = 1.0
"""Seconds between two calls of the shard because time has passed: it says anew how far a federated round is."""
MOST_TAKEN = 1000
"""Messages of the scheduler that are taken before workers are looked after again."""
MOST_LOOKS = 16
"""Times that only those are looked at who share memory and are quick, before all others are too."""
BATCH = 64
"""Messages handled before the loop looks at its other socket and the time."""


class Server:
    """One server process."""

    def __init__(self, process: ProcessConfig) -> None:
        self._process = process
        self._scheduler, self._job_id = scheduler_address(process)
        self._gate = Gate(process)
        self._state_file = StateFile.open(process.state)
        self._directory = PrivateDirectory(process.runtime_dir)
        self._context = self._gate.open_context()
        self._router = open_socket(self._context, zmq.ROUTER)
        self._dealer = open_socket(self._context, zmq.DEALER)
        self._incoming = Incoming(self._dealer, f"the scheduler at {self._scheduler}")
        self._inbox = Inbox(self._router, "server", -1)
        self._shard: Shard | None = None
        self._followers: Followers | None = None
        self._poller = zmq.Poller()
        self._spin = Spin(HostCrowd(lambda: self._membership.view))
        self._team, self._looks = ThreadTeam(), 0
        """What puts weights into workers' memory; how often only those were looked at who are quick."""
        self._moves = ServerMoves(self._context, self._poller)
        self._listeners: list[Listener] = []
        self._guard: DescriptorGuard | None = None
        self._trace = start(process.trace, "server", process.rank)
        self._outgoing = Outgoing(self._inbox, self._dealer, self._moves.lines, self._trace)
        self._seldom = Seldom()
        self._saving = ShardCheckpointing()
        self._succession = Succession(self._context, self._poller, self._trace, process.threads)
        self._farewell = Farewell(process.grace)
        self._callers, self._early = Callers(), Early()
        """Who is at which connection; and what came of workers that have heard of the job before this server."""
        self._ticked = 0.0
        """When the shard was last told that time has passed."""
        self._visited = time.monotonic()
        """When a worker of the job was last heard."""

    def run(self, ready: Callable[[str], None]) -> int:
        """Listen, join, serve until the job ends. Raises the PSError that ends it early."""
        try:
            process, inbox = self._process, self._inbox
            self._guard = DescriptorGuard(self._router, descriptors.allowed(), inbox=inbox, incoming=self._incoming)
            at = process.host, process.port, self._directory.path, self._poller, inbox.rejected, self._guard
            place = Place(self._router, *at, self._spin, self._copy, lambda: inbox.most_unread)
            addresses = listen(place, self._listeners)
            tcp = addresses["tcp"] = advertised(addresses["tcp"], process.advertise, process.host, self._scheduler)
            self._dial = Dial(self._dealer, self._scheduler, time.monotonic())
            self._membership = Membership(
                "server",
                self._scheduler,
                rank=kept_rank(self._state_file) if self._process.rank is None else self._process.rank,
                suggested=self._process.suggested_rank,
                addresses=self._gate.told(addresses.values()),
                script={},
                connect_timeout=self._process.connect_timeout,
                now=time.monotonic(),
                job_id=self._job_id,
            )
            self._membership.more = self._gate.ask
            ready(tcp)
            warn_of_address(process, tcp, self._scheduler)
            with sigterm.postponed():  # a checkpoint may have to be made first: ``Farewell`` says when to end
                return self._loop()
        finally:
            with sigterm.closing():
                self._close()

    def _loop(self) -> int:
        poller = self._poller
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._dealer, zmq.POLLIN)
        beat = 0.0
        while True:
            now = time.monotonic()
            self._farewell.check(self._saving, self._membership, now)
            if now >= beat:
                if self._hear_scheduler():  # first: after long work it is not the scheduler that was silent
                    return 0
                self._tell_scheduler(now)
                self._trace.tick()
                beat = now + 0.25
            patience = min(max(0.001, beat - now), self._saving.patience, self._succession.patience)
            events = self._wait(patience)
            if self._dealer in events and self._hear_scheduler():
                return 0
            for listener in self._listeners:
                self._serve(listener.receive(events))
            if self._router in events:
                self._serve(self._inbox.receive(BATCH))
            self._moves.lines.receive(events)
            self._succession.turn()
            for listener in self._listeners:
                listener.flush()
            self._outgoing.perform(self._saving.turn(idle=not events))

    def _copy(self, into: HostArray, weights: HostArray) -> None:
        self._team.copy(into, weights)

    def _wait(self, patience: float) -> dict[Any, int]:
        """Return what there is to be read, after at most so many seconds, but for what may have a moment more."""
        poller, spin = self._poller, self._spin
        if spin.begin() and patience > LONGEST:
            self._looks = (self._looks + 1) % MOST_LOOKS
            if not self._looks and (events := dict(poller.poll(0))):
                return events
            if ready := spin.look():
                spin.end()
                return dict.fromkeys(ready, zmq.POLLIN)
        events = dict(poller.poll(int(patience * 1000)))
        spin.end()
        return events

    def _serve(self, messages: Iterable[tuple[Origin, Any, Any]]) -> None:
        callers = self._callers
        for origin, message, payload in messages:
            if isinstance(message, Identify):
                key = None if isinstance(origin, Line) else self._inbox.speaker
                self._outgoing.refuse(origin, callers.identify(origin, message, key))
            elif isinstance(message, MaskSum) and self._shard is not None:  # from no member
                self._take(self._shard, origin, message, payload)
            elif callers.joined and (refusal := callers.refusal(origin, message)) is not None:
                if isinstance(message, Mark | Peek):  # from no member
                    self._show(origin, message)
                elif isinstance(message, Received):
                    if self._followers is not None and message.chunk < 0:
                        self._followers.leave(origin)
                elif isinstance(message, Introduce):
                    about = callers, origin, message, self._inbox.speaker
                    self._shard, error = self._moves.meet(self._shard, *about)
                    self._outgoing.refuse(origin, error)
                else:
                    self._outgoing.refuse(origin, refusal)
            elif self._shard is not None:
                self._take(self._shard, origin, message, payload)
            else:
                self._outgoing.perform(self._early.put_off(origin, message))

    def _show(self, origin: Origin, message: Mark | Peek) -> None:
        """Answer somebody who is no member and follows the model. Before there is one, nobody has been told to ask."""
        if self._followers is None or isinstance(origin, Line):
            error = BadMessage("there is no model here to follow, or not on this connection")
            self._outgoing.reject(origin, message, error)
            return
        try:
            self._outgoing.perform([self._followers.receive(origin, message, time.monotonic())])
        except BadMessage as error:
            self._outgoing.reject(origin, message, error)

    def _take(self, shard: Shard, origin: Origin, message: Any, payload: Any) -> None:
        if isinstance(message, Share | SharePart):
            self._share(shard, origin, message)
            return
        now = time.monotonic()
        if shard.expects(getattr(message, "member", 0)):
            self._visited = now
        since = self._trace.now()
        try:
            sends = shard.receive(origin, message, payload, now)
        except BadMessage as error:
            self._seldom.warn(log, now, "dropped %r: %s", message, error)
            self._outgoing.reject(origin, message, error)
            return
        chunk = getattr(message, "chunk", -1)
        self._trace.add("receive", since, name=type(message).__name__, chunk=chunk)
        self._outgoing.perform(sends)

    def _share(self, shard: Shard, origin: Origin, message: Share | SharePart) -> None:
        if isinstance(origin, Line) and origin.listener is not None:
            origin.listener.share(origin, message, shard.weights_memory)
        else:
            self._outgoing.reject(origin, message, BadMessage("memory is shared through a Unix socket"))

    def _tell_scheduler(self, now: float) -> None:
        membership = self._membership
        if self._shard is not None:
            membership.report = {**self._shard.report(now), "rejected": dict(self._inbox.rejected), **about.vitals()}
            if now - self._ticked >= TICK:
                self._ticked = now
                self._outgoing.perform(self._shard.tick(now))
            if self._followers:
                self._outgoing.perform(self._followers.tick(now))
        self._moves.lines.tick()
        membership.report = {**membership.report, **self._succession.report()}
        self._outgoing.perform([Send(SCHEDULER, message) for message in self._succession.tick(now)])
        mine = self._dial, self._incoming, membership, self._inbox, self._guard
        self._outgoing.perform([Send(SCHEDULER, question) for question in self._gate.look(*mine)])
        if membership.welcome is None and (trouble := self._dial.again(now)):
            log.warning("%s", membership.waits_for_scheduler(trouble))
        for message in membership.tick(now):
            self._outgoing.say(Send(SCHEDULER, message))
        if notice := membership.silence_notice(now):
            log.warning("%s", notice)
        demand_company(self._shard, membership, self._scheduler, self._visited, now)

    def _hear_scheduler(self) -> bool:
        """Take what the scheduler sent; return whether the job is over."""
        for _ in range(MOST_TAKEN):
            try:
                message = decode(self._incoming.receive())
            except zmq.Again:
                break
            except BadMessage as error:
                log.warning("dropped a message from %s: %s", self._scheduler, error)
                continue
            if isinstance(message, Order):
                self._follow(message)
                continue
            if isinstance(message, CheckpointOrder):
                self._outgoing.perform(self._saving.order(message))
                continue
            if isinstance(message, Keys):
                self._gate.hear(message, self._inbox, self._guard)
                continue
            if isinstance(message, Placed | MoveOrder):
                self._shard, sends = self._moves.hear(self._shard, message)
                self._outgoing.perform(sends)
                if self._moves.may_leave(self._shard):
                    log.info("all chunks of this server are others' by now, and it is not needed any more")
                    return True
                continue
            before = self._membership.view
            self._membership.receive(message, time.monotonic())
            if self._membership.welcome is not None:
                self._join(self._membership.welcome)
            view = self._membership.view
            if view is None or view is before:
                continue
            announce(before, view, self._inbox.rank)
            if view.phase == "ended":
                if self._followers:
                    last = self._followers.last(time.monotonic())
                    send_last(last, self._outgoing.perform, lambda: self._inbox.receive(BATCH))
                return True
            if view.phase == "failed":
                raise failure(view)
            if (shard := self._shard or self._hold(view)) is not None:
                self._gate.part_from_the_gone(self._callers, view)
                self._moves.view(view, self._membership.member, self._callers)
                self._outgoing.perform(shard.view(view, time.monotonic()))
                self._shard = self._moves.settled(shard)
                self._serve((origin, early, None) for origin, early in self._early.take())
        return False

    def _follow(self, order: Order) -> None:
        """Do what the scheduler orders; what cannot be meant is dropped and told, and it hears how far this one is."""
        if self._shard is None:
            return
        now = time.monotonic()
        try:
            self._outgoing.perform(self._shard.order(order))
        except BadMessage as error:
            self._seldom.warn(log, now, "dropped an order from %s: %s", self._scheduler, error)
            self._outgoing.perform(self._shard.tick(now))

    def _join(self, welcome: Welcome) -> None:
        """Learn from the scheduler who this server is, and by what it knows others."""
        self._inbox.rank = self._succession.rank_of(welcome)
        if not self._callers.joined:
            for origin, error in self._callers.join(_key(welcome)):
                self._outgoing.refuse(origin, error)

    def _hold(self, view: View) -> Shard | None:
        """Make the shard once the job is known: the mode says which one. Raises ConfigError for a bad state file."""
        welcome, process = self._membership.welcome, self._process
        if welcome is None or not view.job:
            return None
        job = JobConfig.from_dict(view.job)
        self._inbox.most_unread = max(self._inbox.most_unread, 2 * job.window)
        if job.federated:
            rank, key, member = welcome.rank, _key(welcome), welcome.member
            self._shard = FederatedShard(rank, job, key, self._state_file, self._trace, process.threads, member)
        else:
            self._state_file.close()
            self._shard = self._succession.shard(welcome, view, job, self._saving, self._listeners)
            if self._shard is None:
                return None
            self._team = ThreadTeam(threads_for(process.threads, cores(), job.servers))
        rank = self._inbox.rank = self._succession.rank_of(welcome)
        self._followers = Followers(rank, _key(welcome), self._shard, self._moves.where)
        self._trace.seat(rank)
        return self._shard

    def _close(self) -> None:
        membership: Any = getattr(self, "_membership", None)
        with contextlib.suppress(zmq.ZMQError):
            if membership is not None and membership.welcome is not None:
                self._dealer.setsockopt(zmq.LINGER, 200)
                self._dealer.send(encode(Leave(0, membership.member, membership.report)), zmq.NOBLOCK)
        for listener in self._listeners:
            listener.close()
        self._moves.lines.close()
        self._succession.close()
        if self._guard is not None:
            self._guard.close()
        self._directory.remove()
        self._incoming.close()
        self._router.close()
        self._dealer.close()
        self._context.term()
        self._trace.close()
        self._state_file.close()


def _key(welcome: Welcome) -> JobKey:
    return JobKey(welcome.job_id, welcome.key)


def serve(process: ProcessConfig, *, ready: Callable[[str], None] = lambda address: None) -> int:
    """Run a server until its job ends; return 0. ``ready`` is called with its address once it listens.

    Raises AddressInUse, ConnectTimeout, Refused, or PeerLost when the job fails.
    """
    keep_freed_memory(1 << 30)
    collect_seldom()
    native.choose(process.kernels)
    return Server(process).run(ready)
