"""Registrar: who a member is: the ids that are given out, what proves them, and who is believed on a new connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ps.protocol.messages import Error, Hello, Identify, Welcome
from ps.server.bindings import unproven
from ps.server.job_key import JobKey, random_id
from ps.server.scheduler.joining import another_job, speaker
from ps.server.scheduler.member_record import LEFT, MemberRecord
from ps.server.scheduler.roster import Roster


class Registrar:
    """Gives out ids, and finds out who somebody is that has one."""

    def __init__(self, key: JobKey | None = None, draw: Callable[[], int] = random_id) -> None:
        """``key``: of a job that was begun before; ``draw`` returns an id for somebody new."""
        self.key = key or JobKey.new()
        self._draw = draw

    def enrol(self, hello: Hello, seats: int, roster: Roster, now: float, *, here: bool) -> MemberRecord:
        """Make a process a member, under an id that nobody has; ``seats``: how many of its role the job has."""
        rank = _rank_for(hello, seats, roster)
        while (member := self._draw()) in roster.members:
            pass
        record = MemberRecord.of(hello, member, roster.next, rank, here, now)
        roster.add(record)
        return record

    def welcome(self, record: MemberRecord, request: int, heartbeat_timeout: float, job: dict[str, Any]) -> Welcome:
        """Return what a member is told: who it is, and how it proves that."""
        key = self.key
        proof = key.proof(record.member, record.rank, record.number)
        secret = key.secret if record.role == "server" else ""
        about = key.job_id, record.number, proof, secret
        return Welcome(request, record.member, record.rank, heartbeat_timeout, job, *about)

    def identified(self, message: Identify, members: Mapping[int, MemberRecord]) -> MemberRecord | Error:
        """Return the member that says on a new connection who it is, or why it is not believed."""
        if message.job_id != self.key.job_id:
            return another_job(message.request)
        if (refusal := unproven(message, self.key)) is not None:
            return refusal
        record = members.get(message.member)
        if record is not None and record.state == LEFT:  # its goodbye may have been lost
            return record
        return speaker(message, members)


def _rank_for(hello: Hello, seats: int, roster: Roster) -> int:
    """Return the rank of a process that may join: the one that it demands, the one that suits it, or the lowest.

    What is suggested may be counted over all roles together, so one beyond the job's seats is nobody's.
    """
    if hello.rank >= 0:
        return hello.rank
    if 0 <= hello.suggested < seats and roster.at(hello.role, hello.suggested) is None:
        return hello.suggested
    return roster.free_rank(hello.role)
