"""FailureDetector: who has been silent for too long, and who is silent but there.

A member's heartbeat comes from its interpreter, which a long call into C can hold for minutes. Its connection is kept
by a thread that needs no interpreter (ZMTP heartbeats), and ends when the process has ended or stands still. So a
member is dead when it is silent and its connection is gone. A connection that is gone may come back within the
time-out, unless the process is known to be gone as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from ps.protocol.membership import heartbeat_interval
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.roster import Roster

log = logging.getLogger("ps.scheduler")

HELD = 30
"""Time-outs after which a silent member is dead though its connection is alive: it may be stuck for ever."""
ASK = 1.0
"""Seconds between two looks at the connection of a silent member."""
MOST_PATIENCE = 120.0
"""Seconds after a restart, beside the time-out, after which those who have not come back are dead, at most. TCP's own
attempts to reach a host that was gone are never further apart."""

LOOK = 0.25
"""Seconds between two looks for processes that are gone, each of which asks the kernel about who is overdue."""

Reach = Callable[[int], bool]
"""Whether a member's connection is alive."""
Gone = Callable[[MemberRecord], bool]
"""Whether a member's process is gone, for certain."""


def patience(outage: float) -> float:
    """Return how many seconds beside the time-out members have to find a scheduler that was away for ``outage`` s.

    They try again at growing intervals, the last of which may be as long as the outage was.
    """
    return min(2 * max(outage, 0.0), MOST_PATIENCE)


class FailureDetector:
    """Finds the dead among the members of a roster."""

    def __init__(self, now: float) -> None:
        self._ticked = self._began = now
        self._asked: dict[int, float] = {}
        """When the connection of a member that is silent was last found to be alive."""
        self._looked = -math.inf
        self._missing: set[int] = set()
        """Members without connection and process at the last look; what they said before may not be read yet."""

    def gone(self, roster: Roster, timeout: float, now: float, reach: Reach, gone: Gone) -> list[MemberRecord]:
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

    def dead(self, roster: Roster, timeout: float, now: float, reach: Reach) -> list[MemberRecord]:
        """Return those that have been silent for more than ``timeout`` seconds and cannot be reached, or too long."""
        if now - self._ticked > timeout / 2:  # this process itself stood still: nobody could be heard
            for record in roster:
                record.seen = max(record.seen, now)
        self._ticked = now
        silent = roster.silent(now - timeout)
        self._asked = {record.member: self._asked[record.member] for record in silent if record.member in self._asked}
        held = now - HELD * timeout
        return [record for record in silent if record.seen < held or not self._is_there(record, timeout, now, reach)]

    def _is_there(self, record: MemberRecord, timeout: float, now: float, reach: Reach) -> bool:
        asked = self._asked.get(record.member, -math.inf)
        if now - asked < ASK:
            return True
        if not reach(record.member):
            return False
        if asked == -math.inf:
            log.warning(
                "%s has said nothing for %.0f s, but its connection is alive: a call that holds its interpreter, or a "
                "host that is overloaded? It is waited for as long as that is so, for %g s at most",
                record,
                now - record.seen,
                HELD * timeout,
            )
        self._asked[record.member] = now
        return True
