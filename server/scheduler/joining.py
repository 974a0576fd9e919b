"""Joining: who may join a job, who may speak in it, and the words for those who may not."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ps.config import JobConfig, job_from, settings_of
from ps.errors import ConfigError
from ps.number import MOST_WORKERS
from ps.protocol.messages import Error, Hello, Leave, Message
from ps.protocol.messages.words import JobPhase
from ps.server.scheduler.cutting import as_cut, first_difference
from ps.server.scheduler.member_record import DEAD, LEFT, MemberRecord
from ps.server.scheduler.roster import Roster
from ps.text import shortened

log = logging.getLogger("ps.scheduler")

MOST_AT_ONCE = 50_000
"""Clients of a federated job at once, at most."""
MOST_QUOTED = 200
"""Characters of a setting that are quoted."""


class ScriptSettings:
    """What workers' scripts ask for, as the job that it makes. The last is kept: thousands may ask for the same."""

    def __init__(self, explicit: Mapping[str, Any]) -> None:
        self._explicit = explicit
        self._last: tuple[dict[str, Any], JobConfig] | None = None
        self._untold: Iterable[str] = explicit
        """Settings of which nobody was told yet that they mean nothing in the job's mode."""

    def job(self, hello: Hello) -> JobConfig:
        """Return the job as a worker's script wants it. Raises ConfigError when it cannot be."""
        if self._last is None or self._last[0] != hello.script:
            self._last = dict(hello.script), job_from(self._explicit, hello.script)
            self._tell_of_unheeded(self._last[1])
        return self._last[1]

    def _tell_of_unheeded(self, job: JobConfig) -> None:
        table = settings_of(JobConfig)
        unheeded, self._untold = [name for name in self._untold if not job.heeds(name)], ()
        for name in unheeded:
            what, modes = f"{name} = {table[name].show(getattr(job, name))}", " or ".join(table[name].modes)
            log.warning("%s changes nothing with mode = %s; it is for mode = %s", what, job.mode, modes)


def another_job(request: int) -> Error:
    """Return what a process of another job is told."""
    text = (
        "another job runs at this address by now: the one that this process belongs to has ended, or its scheduler was "
        "started anew without its --state file. Start this process anew to take part in the new one"
    )
    return Error(request, "another-job", text)


def speaker(message: Message, members: Mapping[int, MemberRecord]) -> MemberRecord | Error:
    """Return the member that a message is from, or why it may not say that. A goodbye may be said again."""
    record, request = members.get(getattr(message, "member", 0)), getattr(message, "request", 0)
    if record is None:
        text = "this scheduler does not know you; was it restarted without its --state file?"
        return Error(request, "unknown", text)
    if record.state == DEAD:
        return Error(request, "evicted", record.obituary)
    if record.state == LEFT and not isinstance(message, Leave):
        return Error(request, "evicted", f"{record} has left the job; start it anew to rejoin")
    return record


def over(hello: Hello, phase: JobPhase, reason: str) -> Error:
    """Return what a process is told that comes when the job is over."""
    if phase == "ended":
        return Error(hello.request, "ended", "this job has ended in good order; there is nothing left to do")
    return Error(hello.request, "over", f"the job has failed: {reason}")


def turned_away(hello: Hello, job_id: int, phase: JobPhase, reason: str) -> Error | None:
    """Return what a process is told that comes for another job, or when this one is over."""
    if hello.job_id not in (0, job_id):
        return another_job(hello.request)
    return over(hello, phase, reason) if phase in ("ended", "failed") else None


def patience(job: JobConfig | None, roster: Roster) -> float | None:
    """Return how long a worker is waited for that is known to live and says nothing; None: as long as a server.

    Nobody waits for a client, and who waits for a place of a pipeline does not wait for ever.
    """
    if job is None or job.federated or (job.pipeline and (job.spares or roster.spares)):
        return None
    return math.inf if job.hang_timeout is None else job.hang_timeout


def refusal(
    hello: Hello,
    roster: Roster,
    servers: int,
    job: JobConfig | None,
    wished: Callable[[Hello], JobConfig],
    late: MemberRecord | None = None,
) -> Error | None:
    """Return why a process may not join, or None. ``wished`` returns the job that a worker's script asks for.

    ``late``: who has the rank that suits it, and may be dead: it asks again until that is known.
    """
    if hello.role == "server":
        seats, servers = servers, roster.server_seats if roster.has_standbys else servers
        beside = f" and {seats - servers} standbys" if seats > servers else ""
        if roster.count("server") + len(roster.standbys) >= seats or hello.rank >= seats:
            text = f"the job has {servers} servers{beside}, and they are here"
            if hello.rank >= seats:
                text = f"server {hello.rank} asked to join, but the job has {servers} servers{beside}"
            return Error(hello.request, "rank-taken", text)
    else:
        try:
            theirs = wished(hello)
        except ConfigError as error:
            return Error(hello.request, "config", str(error))
        if job is not None and theirs != job and (theirs := as_cut(theirs, job)) != job:
            key = first_difference(theirs, job)
            asked, given = (shortened(str(getattr(each, key)), MOST_QUOTED) for each in (theirs, job))
            text = f"this worker's script asks for {key} = {asked}, but the job runs with {given}"
            return Error(hello.request, "config", f"{text}; all workers must run the same script")
        most = MOST_AT_ONCE if theirs.federated else MOST_WORKERS
        if roster.count("worker") >= most:
            return Error(hello.request, "rank-taken", f"the job has {most} workers, and more there cannot be")
    holder = roster.at(hello.role, hello.rank) or late
    if holder is not None:
        how = "which is alive" if late is None else "of which it is not known yet whether it lives"
        return Error(hello.request, "rank-taken", f"rank {holder.rank} is taken by {holder}, {how}")
    return None
