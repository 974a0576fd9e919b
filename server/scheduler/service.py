"""The scheduler process: a socket, the time and a file around SchedulerState."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import zmq

from ps import descriptors, sigterm
from ps.config.process import ProcessConfig
from ps.errors import BadMessage, BudgetSpent, CheckpointError, PeerLost, PSError
from ps.protocol import address_file, pid
from ps.protocol.addresses import advertised
from ps.protocol.descriptor_guard import DescriptorGuard
from ps.protocol.inbox import Inbox
from ps.protocol.messages import (
    CheckpointRequest,
    DrainRequest,
    FollowRequest,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelpRequest,
    Identify,
    KeysRequest,
    Leave,
    Message,
    Status,
    StatusRequest,
    Welcome,
)
from ps.protocol.sockets import open_socket
from ps.protocol.transports.tcp import Tcp
from ps.server.bindings import Bindings, stranger
from ps.server.scheduler.checkpoint_desk import CheckpointDesk
from ps.server.scheduler.doorkeeper import Doorkeeper
from ps.server.scheduler.drain_desk import DrainDesk
from ps.server.scheduler.failure_detector import sign_interval
from ps.server.scheduler.first_batches import FirstBatches
from ps.server.scheduler.following import Following
from ps.server.scheduler.journal import Journal
from ps.server.scheduler.member_record import DEAD, LIVE, REVOKED, MemberRecord
from ps.server.scheduler.persistence import Persistence
from ps.server.scheduler.reach import Reach
from ps.server.scheduler.rounds.privacy import demand_account
from ps.server.scheduler.status import snapshot
from ps.server.scheduler.status_desk import StatusDesk
from ps.server.scheduler.waits import SHOWN, Waits
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")

TICK = 0.1
"""Seconds between looks at the time."""
LAST = 60.0
"""Seconds for which the scheduler of a job that is over waits for goodbyes; twice the heartbeat time-out if longer."""
LONGEST = 8 << 20
"""Bytes of a frame, at most: layouts are shorter, and so are the distances between the most that are compared."""
BATCH = 256

Tell = Callable[[dict[str, Any]], None]
"""Called with ``federated``, a status of the rounds whose history has the new ones, and in the end with the status."""


class Scheduler:
    """One scheduler process."""

    def __init__(
        self,
        explicit: dict[str, Any],
        process: ProcessConfig,
        tell: Tell = lambda entry: None,
        *,
        is_first: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """``say``: called with a line for whatever matters to who watches.

        ``is_first``: no process of the job lives yet; those that a state file knows are gone.
        """
        self._process = process
        self._doorkeeper = Doorkeeper(process)
        self._persistence = Persistence(process.state)
        self._tell = tell
        self._say = say
        self._journal = Journal()
        self._first_batches = FirstBatches()
        self._waits = Waits()
        self._waited = 0.0
        """When it was last looked who waits."""
        self._following, self._drains = Following(), DrainDesk()
        self._announced = -1, False
        """How many rounds were told of, and whether the job was over by then."""
        self._began = time.monotonic()
        try:
            self._state = self._persistence.restore(explicit, self._began, is_first=is_first)
            self._desk = CheckpointDesk(self._state, say or log.warning, process.grace, self._began)
        except PSError:
            self._persistence.close()
            raise
        if process.gather:
            self._state.absence.come(self._began)
        self._bindings = Bindings[bytes]()
        self._context = self._doorkeeper.open_context()
        self._router = open_socket(self._context, zmq.ROUTER, longest=LONGEST)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # to be told who is gone
        timeout, workers = self._state.setting("heartbeat_timeout"), self._state.setting("workers")
        self._router.setsockopt(zmq.HEARTBEAT_IVL, max(1, round(1000 * sign_interval(timeout, workers))))
        self._router.setsockopt(zmq.HEARTBEAT_TIMEOUT, max(1, min(int(timeout * 500), 60_000)))
        self._inbox = Inbox(self._router, "scheduler", 0, tells_address=True)
        self._guard: DescriptorGuard | None = None
        self._realm = pid.realm()
        self._own = {"pid": os.getpid(), "mark": pid.mark()}
        self._address = ""
        self._reaches = Reach(log.warning)
        self._status = StatusDesk(lambda now: self._inbox.written(Status(0, self._snapshot(now))))
        self._over = 0.0
        """Since when the job is over."""

    def run(self, ready: Callable[[str], None]) -> int:
        """Listen and answer until the job is over. Raises PeerLost with the reason when it failed."""
        try:
            host, port = self._process.host, self._process.port
            self._guard = DescriptorGuard(self._router, descriptors.allowed(), inbox=self._inbox)
            bound = Tcp().bind(self._router, host, port, Path())
            self._address = advertised(bound, self._process.advertise)
            if (file := self._process.address_file) is not None:
                address_file.write(file, self._address, self._state.key.job_id)
            ready(self._address)
            with sigterm.postponed():  # the job's last checkpoint may have to be made first
                while not (self._state.over and self._all_know()):
                    if (status := sigterm.status()) and self._desk.may_end(self._state, time.monotonic()):
                        self._persistence.keep(self._state, time.monotonic())
                        raise SystemExit(status)
                    self._turn()
            self._tell(self._snapshot(time.monotonic()))
            if self._state.phase == "failed":
                kind = CheckpointError if self._state.code == "unsaved" else PeerLost
                raise kind(f"the job failed: {self._state.reason}")
            rounds = self._state.rounds
            if rounds is not None and rounds.privacy.cut_short:
                raise BudgetSpent(
                    f"the privacy budget is spent, with {rounds.version} of {rounds.job.rounds} rounds done; the model "
                    f"is that of the last of them. See: psctl privacy"
                )
            return 0
        finally:
            with sigterm.closing():
                self._close()

    def _close(self) -> None:
        if self._process.address_file is not None:
            address_file.remove(self._process.address_file, self._address)
        if self._guard is not None:
            self._guard.close()
        self._router.setsockopt(zmq.LINGER, 300)
        self._router.close()
        self._context.term()
        self._persistence.close()

    def _all_know(self) -> bool:
        """Whether the job's end was told to all: each says goodbye, or is found to be dead."""
        now = time.monotonic()
        self._over = self._over or now
        members = [str(member) for member in self._state.members.values() if member.state == LIVE]
        if not members:
            masking = self._state.rounds.masking if self._state.rounds is not None else None
            return masking is None or not masking.is_expected(now)
        if now - self._over > (last := max(LAST, 2 * self._state.setting("heartbeat_timeout"))):
            log.warning("no goodbye for %.0f s after the end from %s", last, ", ".join(members[:10]))
            return True
        return False

    def _turn(self) -> None:
        state, sends, drained = self._state, list[tuple[bytes, Send]](), True
        busy = state.rounds is not None and state.rounds.busy
        if self._router.poll(0 if busy else int(TICK * 1000)):
            for origin, message, payload in self._inbox.receive(BATCH):
                if isinstance(message, StatusRequest):
                    if (written := self._status.answer(message.request)) is not None:
                        self._inbox.pass_on(origin, written)
                    continue
                if isinstance(message, CheckpointRequest):
                    sends += self._desk.ask(origin, message, state, time.monotonic())
                    continue
                if isinstance(message, DrainRequest):
                    sends += self._drains.ask(origin, message, state)
                    continue
                if isinstance(message, FollowRequest):
                    self._inbox.send(origin, self._following.answer(state, message))
                    continue
                if (refusal := self._doorkeeper.refusal(message, self._inbox.speaker, state)) is not None:
                    self._inbox.send(origin, refusal)
                    continue
                if not isinstance(message, Hello | Identify | HelpRequest) and not self._bindings.speaks(
                    origin, message
                ):
                    self._inbox.send(origin, stranger(message))
                    continue
                if isinstance(message, KeysRequest):
                    if (keys := self._doorkeeper.answer(message)) is not None:
                        self._inbox.send(origin, keys)
                    continue
                try:
                    sends += [(origin, send) for send in self._hear(origin, message, payload)]
                except BadMessage as error:
                    self._inbox.reject(origin, getattr(message, "request", 0), error)
            drained = self._inbox.drained
        sends += [(b"", send) for send in self._part_from_the_revoked()]
        gone = self._is_gone if drained else _unknown
        sends += [(b"", send) for send in state.tick(time.monotonic(), self._reach, gone, self._lives)]
        sends += self._desk.turn(state, time.monotonic()) + self._drains.turn(state)
        self._keep()
        rounds = state.rounds
        if rounds is not None and not rounds.changed:
            sends += [(b"", send) for send in rounds.saved(time.monotonic())]
        self._perform(sends)

    def _hear(self, origin: bytes, message: Message, payload: Any) -> list[Send]:
        """Have a message heard, and remember who has shown on this connection that it is a member."""
        if isinstance(message, HelpRequest):
            return self._state.help(message, time.monotonic())
        here = isinstance(message, Hello) and pid.is_own_address(self._inbox.address)
        sends = self._state.hear(message, time.monotonic(), payload, here)
        if isinstance(message, Heartbeat | Leave) and "first_batch" in message.report:
            self._first_batches.look(self._state.members.get(message.member))
        for send in sends[:1]:
            if isinstance(send.message, Welcome):
                self._bindings.bind(send.message.member, origin)
                record = self._state.members[send.message.member]
                self._doorkeeper.seat(record, self._inbox.speaker, self._state)
                self._reaches.try_out(record)
                if record.role == "server" and (keys := self._doorkeeper.keys) is not None:
                    sends.append(Send(record.member, keys))  # what changed while there was no scheduler holds at once
        return sends

    def _part_from_the_revoked(self) -> list[Send]:
        """Have those be dead whose keys were revoked, cut their connections, and tell the servers."""
        found = self._doorkeeper.look(self._state)
        if found is None:
            return []
        sends = []
        for record in found.revoked:
            self._bindings.release(record.member)
            sends += self._state.lose(record, DEAD, REVOKED, time.monotonic())
        if self._guard is not None and found.cuts:
            self._inbox.end_unlisted(self._guard.accepted)
        if found.keys is not None:
            sends += [Send(server.member, found.keys) for server in self._state.roster if server.role == "server"]
        return sends

    def _reach(self, member: int) -> bool:
        """Whether a member's connection is alive. It is asked by a word that changes nothing."""
        origin = self._bindings.of(member)
        return origin is not None and self._inbox.reach(origin, HeartbeatAck(self._state.epoch))

    def _is_gone(self, record: MemberRecord) -> bool:
        """Whether a member's process is gone, for certain: only one of our own host can be."""
        return record.here and pid.is_gone(record.pid, record.mark, self._realm)

    def _lives(self, record: MemberRecord) -> str:
        """Return how a process of our own host is known to live, in words; nothing where that is not known."""
        return pid.condition(record.pid, record.mark, self._realm) if record.here else ""

    def _keep(self) -> None:
        if self._say is not None:
            for line in self._journal.look(self._state, time.monotonic()):
                self._say(line)
        if (now := time.monotonic()) - self._waited >= SHOWN:
            self._waited = now
            for line in self._waits.look(self._state, now):
                log.warning("%s", line)
        if self._state.changed:
            self._bindings.keep(self._state.members)
        self._persistence.keep(self._state, time.monotonic())
        rounds = self._state.rounds
        if rounds is not None and self._announced != (rounds.version, self._state.over):
            new = [entry for entry in rounds.history if entry["round"] >= self._announced[0]]
            self._announced = rounds.version, self._state.over
            self._tell({"federated": {**rounds.status(), "history": new}})

    def _perform(self, sends: Iterable[tuple[bytes, Send]]) -> None:
        """Speak, after all was saved: what a member was told survives this process."""
        for origin, send in sends:
            to = self._bindings.of(send.to) if isinstance(send.to, int) else origin
            if to:
                self._inbox.send(to, send.message)

    def _snapshot(self, now: float) -> dict[str, Any]:
        rejected, uptime = dict(self._inbox.rejected), now - self._began
        waits = self._waits.shown(now)
        found: dict[str, Any] = snapshot(
            self._state,
            now,
            address=self._address,
            uptime=uptime,
            rejected=rejected,
            waits=waits,
            wall=time.time(),
            process=self._own,
        )
        return found


def _unknown(record: MemberRecord) -> bool:
    return False


def serve(
    explicit: dict[str, Any],
    process: ProcessConfig,
    *,
    ready: Callable[[str], None] = lambda address: None,
    tell: Tell = lambda entry: None,
    is_first: bool = False,
    say: Callable[[str], None] | None = None,
) -> int:
    """Run a scheduler until its job is over; return 0. ``ready`` is called with its address once it listens.

    ``explicit`` holds the job's settings that flags, environment or TOML set; the first worker's script completes
    them. ``say`` is called with a line for whatever matters to who watches. ``is_first``: no other process of the job
    lives yet. Raises AddressInUse, ConfigError, PeerLost when the job failed, or BudgetSpent when rounds are left.
    """
    demand_account(explicit)
    return Scheduler(explicit, process, tell, is_first=is_first, say=say).run(ready)
