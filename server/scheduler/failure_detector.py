"""FailureDetector: who has been silent for too long, and who is silent but there.

A member's heartbeat comes from its interpreter, which a long call into C can hold for minutes. Its connection is kept
by a thread that needs no interpreter (ZMTP heartbeats), and ends when the process has ended or stands still. So a
member is dead when it is silent and its connection is gone. A connection that is gone may come back within the
time-out, unless the process is known to be gone as well.

A worker of this host whose process lives is not dead, however long it says nothing: it computes, or somebody looks at
it with a debugger or has stopped it (SIGSTOP), when its connection ends too. On other hosts the connection is what
shows that it lives. Who waits for it is told, and only ``hang_timeout``, where one is set, ends that. A worker that
cannot be reached, and whose rank another process asks for, is not waited for so long.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from ps.protocol.membership import heartbeat_interval
from ps.protocol.messages import Hello
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.roster import Roster

log = logging.getLogger("ps.scheduler")

HELD = 30
"""Time-outs after which a silent server is dead though its connection is alive: it may be stuck for ever."""
MOST_WAITING = 1000
"""Processes that want another's rank and of which it is known when they came, at most."""
OVERDUE = 2
"""Heartbeats that one lacks, and no connection, whose rank another process asks for: it is not waited for any more."""
SIGNS = 5
"""Signs of life of a connection in the time after which a member that is silent is dead."""
LOOKED_AT = 100e-9
"""Seconds for which ZeroMQ looks at one timer: for each sign of life at those of all connections, one by one (libzmq
4.3.5: ``poller_base_t::cancel_timer``); each connection has up to two."""
ON_SIGNS = 0.1
"""The part of one core that may be spent on that."""
LONGEST_SIGN = 60.0
"""Seconds between two signs of life, at most, however many there are."""
ASK = 1.0
"""Seconds between two looks at a silent member, its connection and its process."""
MOST_PATIENCE = 120.0
"""Seconds after a restart, beside the time-out, after which those who have not come back are dead, at most. TCP's own
attempts to reach a host that was gone are never further apart."""

LOOK = 0.25
"""Seconds between two looks for processes that are gone, each of which asks the kernel about who is overdue."""

Reach = Callable[[int], bool]
"""Whether a member's connection is alive."""
Gone = Callable[[MemberRecord], bool]
"""Whether a member's process is gone, for certain."""


Lives = Callable[[MemberRecord], str]
"""Returns how the process of a member is known to live, in words; nothing where that is not known."""


def nobody(member: int) -> bool:
    """Nobody is connected."""
    return False


def is_unknown(record: MemberRecord) -> bool:
    """It is known of no process that it is gone."""
    return False


def unknown(record: MemberRecord) -> str:
    """Return nothing: of no process is anything known."""
    return ""


def sign_interval(timeout: float, workers: int) -> float:
    """Return the seconds between two signs of life of a connection, of which there may be so many.

    A second, or less where members are dead after less than five. Of thousands of connections all of a thread's time
    would go into it, and nobody new gets in: there they come more seldom, and who stands still is found out later.
    """
    often = min(1.0, timeout / SIGNS)
    return max(often, min(2 * workers * workers * LOOKED_AT / ON_SIGNS, LONGEST_SIGN))


def patience(outage: float) -> float:
    """Return how many seconds beside the time-out members have to find a scheduler that was away for ``outage`` s.

    They try again at growing intervals, the last of which may be as long as the outage was.
    """
    return min(2 * max(outage, 0.0), MOST_PATIENCE)


class FailureDetector:
    """Finds the dead among the members of a roster."""

    def __init__(self, now: float) -> None:
        self.held: dict[int, str] = {}
        """Members that are silent and not dead, and how each is known to live."""
        self._ticked = self._began = now
        self._asked: dict[int, float] = {}
        """When it was last looked whether one that is silent lives."""
        self._told: dict[int, str] = {}
        """What was said of them."""
        self._hurried: set[int] = set()
        """Whose ranks others ask for."""
        self._came: dict[int, float] = {}
        """When those first came, by their nonces."""
        self._looked = -math.inf
        self._missing: set[int] = set()
        """Members without connection and process at the last look; what they said before may not be read yet."""

    def hurry(self, hello: Hello, roster: Roster, now: float) -> MemberRecord | None:
        """Return the worker that has the rank which another process wants, unless it was heard since that one came.

        It may be dead, and its process come back. Where it is, the other one comes in its place; where it lives, a
        rank that was demanded is refused and of one that was suggested the next free one is given.
        """
        rank = hello.rank if hello.rank >= 0 else hello.suggested
        record = roster.at(hello.role, rank) if hello.role == "worker" else None
        if record is None:
            return None
        if len(self._came) >= MOST_WAITING and hello.nonce not in self._came:
            del self._came[next(iter(self._came))]
        if record.seen >= self._came.setdefault(hello.nonce, now):
            return None
        self._hurried.add(record.member)
        return record

    def found(
        self,
        roster: Roster,
        timeout: float,
        now: float,
        reach: Reach,
        gone: Gone,
        lives: Lives = unknown,
        hang: float | None = None,
    ) -> list[tuple[MemberRecord, str]]:
        """Return the dead, and why they are; ``hang``: after how long a worker is that lives and says nothing."""
        found = self._dead(roster, timeout, now, reach, lives, hang)
        dead = {record.member for record, _ in found}
        ended = self._gone(roster, timeout, now, reach, gone)
        return [*found, *((record, "its process is gone") for record in ended if record.member not in dead)]

    def _gone(self, roster: Roster, timeout: float, now: float, reach: Reach, gone: Gone) -> list[MemberRecord]:
        """Return those whose heartbeat is overdue and whose connection and process are gone, found so twice in a row.

        All that has been received must have been read before: it may be a goodbye.
        """
        if now - self._looked < LOOK and not self._missing:
            return []
        self._looked = now
        latest = now - heartbeat_interval(timeout)
        heard = now - self._began >= heartbeat_interval(timeout)  # a scheduler that is just back has heard of nobody
        overdue = [record for record in roster if record.seen < latest or (heard and record.seen > now)]
        found = [record for record in overdue if gone(record) and not reach(record.member)]
        before, self._missing = self._missing, {record.member for record in found}
        return [record for record in found if record.member in before]

    def _dead(
        self, roster: Roster, timeout: float, now: float, reach: Reach, lives: Lives, hang: float | None
    ) -> list[tuple[MemberRecord, str]]:
        """Return those that have been silent for too long, for what is known of them."""
        if now - self._ticked > timeout / 2:  # this process itself stood still: nobody could be heard
            for record in roster:
                record.seen = max(record.seen, now)
        self._ticked = now
        overdue = roster.silent(now - min(timeout, OVERDUE * heartbeat_interval(timeout)))
        known = {record.member for record in overdue}
        self._asked = {member: asked for member, asked in self._asked.items() if member in known}
        self.held = {member: words for member, words in self.held.items() if member in known}
        self._told = {member: words for member, words in self._told.items() if member in known}
        self._hurried &= known
        found = []
        for record in overdue:
            silence, own = now - record.seen, hang if record.role == "worker" else None
            limit = HELD * timeout if own is None else own
            late = silence > timeout or record.member in self._hurried
            if (late or own is not None) and now - self._asked.get(record.member, -math.inf) >= ASK:
                self._asked[record.member] = now
                words = lives(record) if own is not None else ""
                if not words and late and reach(record.member):
                    words = "its connection is alive: a call that holds its interpreter, or an overloaded host"
                if words:
                    self._hold(record, words, limit, silence, timeout)
                else:
                    self.held.pop(record.member, None)
            if not late:
                continue
            if record.member not in self.held:
                why = "" if silence > timeout else ", and another process came with its rank"
                found.append((record, f"no heartbeat for {_rounded(silence, timeout):g} s{why}"))
            elif silence > limit:
                found.append((record, f"no heartbeat for {_rounded(silence, timeout):g} s; {self.held[record.member]}"))
        return found

    def _hold(self, record: MemberRecord, words: str, limit: float, silence: float, timeout: float) -> None:
        """Note that one which is silent lives; say so once it is silent for long."""
        self.held[record.member] = words
        if silence > timeout and self._told.get(record.member) != words:
            self._told[record.member] = words
            most = "" if math.isinf(limit) else f", for {limit:g} s at most"
            log.warning(
                "%s has said nothing for %.0f s, but %s. It is waited for as long as that is so%s",
                record,
                silence,
                words,
                most,
            )


def _rounded(silence: float, timeout: float) -> float:
    """Return how long one was silent, as it is told: in whole time-outs."""
    return max(timeout, math.floor(silence / timeout) * timeout) if silence > timeout else round(silence, 1)
