"""Membership: a process's side of the conversation with the scheduler, without sockets, threads or clocks.

``now`` comes in with every call. ``tick`` returns what to send, ``receive`` takes what came. A server's loop and
a worker's link thread both drive one of these.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ps.config import PIPELINE
from ps.dataclass import dataclass
from ps.errors import ConnectTimeout, Refused
from ps.protocol import pid
from ps.protocol.error_codes import refusal
from ps.protocol.messages import (
    Error,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Identify,
    Message,
    Placed,
    Quorum,
    Seat,
    View,
    Welcome,
)
from ps.protocol.messages.words import MemberRole
from ps.protocol.placement import Where, unpacked

log = logging.getLogger("ps.membership")

RETRY = 1.0
"""Seconds after which an unanswered Hello is sent again."""
STILL = 3 * RETRY
"""Seconds between two calls of ``tick`` after which this process cannot have heard anybody in between."""
_BUSY = ("server", "worker")
"""Who computes; a scheduler hardly does."""
STALE = 4 * RETRY
"""Seconds after which a refusal, which every Hello is answered with, is not the state of things any more."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A live member as a view shows it. ``place`` is host and process id, for people."""

    member: int
    role: str
    rank: int
    initial: bool
    place: str
    addresses: tuple[str, ...]

    @property
    def is_here(self) -> bool:
        """Whether its host is called like ours. Only hints are made of that: two hosts may have one name."""
        return self.place.partition(",")[0] == socket.gethostname()

    def __str__(self) -> str:
        return f"{self.role} {self.rank} ({self.place})"


def peers(view: View) -> tuple[Peer, ...]:
    """Return the live members of a view."""
    return tuple(Peer(*row) for row in view.members)


class HostCrowd:
    """How many of a job's servers and workers share this host's processors, by the latest view."""

    def __init__(self, view: Callable[[], View | None]) -> None:
        self._view = view
        self._counted: View | None = None
        self._count = 0

    def __call__(self) -> int:
        """Return their number, this process among them; 0 where nobody has told yet."""
        view = self._view()
        if view is not self._counted:
            members = peers(view) if view is not None else ()
            self._counted, self._count = view, sum(peer.is_here for peer in members if peer.role in _BUSY)
        return self._count


def is_spare(view: View, rank: int) -> bool:
    """Whether a worker of this rank has no place, in a job that has only so many."""
    limited = view.job.get("mode") in PIPELINE or view.job.get("min_workers") is not None
    return limited and rank >= view.job.get("workers", 0)


def heartbeat_interval(timeout: float) -> float:
    """Return the seconds between two heartbeats of a member that is dead after ``timeout`` s without any."""
    return min(1.0, timeout / 5)


class Membership:
    """Joins, beats and keeps the latest view. Raises the PSError that ends this process's membership."""

    def __init__(
        self,
        role: MemberRole,
        scheduler: str,
        *,
        rank: int | None,
        suggested: int | None = None,
        addresses: tuple[str, ...],
        script: Mapping[str, Any],
        connect_timeout: float,
        now: float,
        job_id: int = 0,
    ) -> None:
        """``job_id``: of the only job that this process belongs to; 0: of whichever is there."""
        self.scheduler = scheduler
        self.welcome: Welcome | None = None
        self.seat: Seat | None = None
        """The place of another that this worker has taken, if it has."""
        self.quorum: Quorum | None = None
        """How many workers lack of the fewest that the job trains with, as far as that was said."""
        self.view: View | None = None
        self.placed: Where = {}
        """Which chunks are not where the layout has them, as the scheduler said last."""
        self.noticed: Callable[[], None] = lambda: None
        """Called after each new view."""
        self.told: Callable[[View], bool] = lambda view: False
        """Called with each new view; whether something is to be answered at once, by what ``more`` returns."""
        self.more: Callable[[int], list[Message]] = lambda member: []
        """Returns what this member says with each heartbeat."""
        self.report: dict[str, Any] = {}
        self.unknown = False
        self.known = 0
        """How often the scheduler has taken a connection for this member's."""
        self._strange = False
        """Whether the scheduler does not know whose connection this is."""
        self._hello = Hello(
            request=0,
            nonce=secrets.randbits(62),
            role=role,
            rank=-1 if rank is None else rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            mark=pid.mark(),
            addresses=addresses,
            script=dict(script),
            suggested=-1 if suggested is None else suggested,
            job_id=job_id,
        )
        self._deadline = now + connect_timeout
        self._connect_timeout = connect_timeout
        self._sent, self._goes = -1e9, False
        self._heard = now
        self._refused = ""
        self._noticed = now
        self._ticked = now

    @property
    def interval(self) -> float:
        """Seconds between heartbeats."""
        return heartbeat_interval(self.welcome.heartbeat_timeout) if self.welcome else RETRY

    @property
    def member(self) -> int:
        """This process's id; 0 before WELCOME."""
        return self.welcome.member if self.welcome else 0

    @property
    def identity(self) -> Identify | None:
        """What this process says on a new connection; None before WELCOME."""
        w, s = self.welcome, self.seat
        if w is None:
            return None
        about = (w.rank, w.number, w.proof) if s is None else (s.rank, s.number, s.proof)
        return Identify(0, w.job_id, w.member, *about)

    def mends(self, error: Error) -> bool:
        """Whether an error is about this process as a whole, and something is done about it here."""
        return error.code == "stranger" or (error.code == "evicted" and self.returns)

    @property
    def returns(self) -> bool:
        """Whether this process joins again when it was declared dead: a federated job's clients come and go."""
        return self._hello.role == "worker" and self.view is not None and self.view.job.get("mode") == "federated"

    def silence(self, now: float) -> float:
        """Seconds since the scheduler was last heard."""
        return now - self._heard

    def silence_notice(self, now: float) -> str:
        """Return a line to log when the scheduler has not been heard for long, else nothing; now and then again."""
        if self.welcome is None:
            return ""
        if self.silence(now) < self.welcome.heartbeat_timeout:
            self._noticed = now - 30.0
            return ""
        if now - self._noticed < 30.0:
            return ""
        self._noticed = now
        return (
            f"the scheduler at {self.scheduler} has been silent for {self.silence(now):.0f} s; training goes on. "
            f"Restart it at that address with the same --state file"
        )

    def waits_for_scheduler(self, trouble: str) -> str:
        """Return a line to log when the scheduler cannot be reached yet."""
        return f"waiting for the scheduler: {trouble}; it is tried for {self._connect_timeout:g} s"

    def tick(self, now: float) -> list[Message]:
        """Return what is to be sent now. Raises ConnectTimeout when nobody welcomed us in time.

        A process that stood still has a few seconds to be welcomed in any case: the answer may have come meanwhile.
        """
        if now - self._ticked > STILL:  # it stood still itself: nobody could be heard, and what was said is to be read
            self._heard += now - self._ticked
            self._deadline = max(self._deadline, now + STALE)
        self._ticked = now
        if self.welcome is None and now > self._deadline:
            self._give_up(now)
        known, self._goes = self._goes, "terminated" in self.report
        if now - self._sent < self.interval and self._goes == known:  # that this one is to end is said at once
            return []
        self._sent = now
        if self.welcome is None:
            return [self._hello]
        beat = Heartbeat(self.member, self.view.epoch if self.view else 0, self.report)
        identity = self.identity if self._strange else None
        return [*([beat] if identity is None else [identity, beat]), *self.more(self.member)]

    def _return(self, text: str, now: float) -> None:
        """Join again under the same rank; what is still on its way to the former self is nobody's any more."""
        if self.welcome is None:
            return
        log.warning("%s. It joins again", text.partition(". Start it anew")[0])
        rank, job_id = self.welcome.rank, self.welcome.job_id
        self._hello = dataclasses.replace(self._hello, nonce=secrets.randbits(62), rank=rank, job_id=job_id)
        self._deadline, self._sent, self._refused = now + self._connect_timeout, -1e9, ""
        self.welcome = None

    def _give_up(self, now: float) -> NoReturn:
        silence = self.silence(now)
        if self._refused and silence < STALE:
            raise Refused(self._refused)
        if self._refused:
            since, last = f"for {silence:.0f} s", f" The last it said, {silence:.0f} s ago, was: {self._refused}"
        else:
            since, last = f"after {self._connect_timeout:g} s", ""
        raise ConnectTimeout(
            f"no reply from the scheduler at {self.scheduler} {since}. "
            f"Is it up? Try: psctl ping {self.scheduler}{'.' if last else ''}{last}"
        )

    def heard(self, now: float) -> None:
        """The scheduler said something that is not about membership."""
        self._heard = now

    def receive(self, message: Message, now: float) -> None:
        """Take a message of the scheduler; those that are not about membership are ignored."""
        self.heard(now)
        match message:
            case Welcome() if self.welcome is None or message.member == self.member:
                self.welcome = self.welcome or message
                self._sent, self._strange, self.unknown = -1e9, False, False
                self.known += 1
            case Seat() if message.member == self.member:
                if self.seat is None or message.number > self.seat.number:
                    self.seat = message
            case View() if self.view is None or message.epoch > self.view.epoch:
                self.view = message
                if self.told(message):
                    self._sent = -1e9
                self.noticed()
            case Quorum() if self.quorum is None or message.epoch >= self.quorum.epoch:
                self.quorum = message
            case Placed():
                self.placed = unpacked(message.elsewhere)
            case HeartbeatAck():
                self.unknown = self._strange = False
            case Error(code="rank-taken"):
                if not self._refused:  # whoever has it may be dead, which a scheduler that was away has yet to find out
                    self._deadline = max(self._deadline, now + self._connect_timeout)
                self._refused = message.text
            case Error(code="evicted") if self.returns:
                self._return(message.text, now)
            case Error(code="unknown"):
                self.unknown = True
            case Error(code="stranger"):
                if not self._strange:  # at once, and then with every heartbeat
                    self._strange, self._sent = True, -1e9
            case Error(code="another-job"):
                raise refusal(message, f"the scheduler at {self.scheduler}")
            case Error():
                raise refusal(message)
            case _:
                pass
