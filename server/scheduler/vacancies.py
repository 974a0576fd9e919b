"""Vacancies: the places of pipelines whose workers are gone, and who takes them.

A worker whose rank is beyond the job's places is a spare, whether it was started as one (``spares``) or came later by
hand. One that was killed, or told to end, is replaced: by a spare that is there, or, in a job that announces spares, by
the next worker that comes; until then the place is kept, and everybody else waits as for one that is slow. Nobody
replaces a worker whose script failed, as another one's would too, nor one of a pipeline whose end has begun.
"""

from __future__ import annotations

import logging

from ps.config import JobConfig
from ps.config.pipeline import replaces
from ps.protocol.messages import Seat
from ps.server.job_key import JobKey
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.roster import Roster
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")


class Vacancies:
    """Since when which place is free. Whose it was is in the roster."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def lose(self, record: MemberRecord, job: JobConfig, roster: Roster, now: float) -> None:
        """A worker is gone; keep its place if it is to be replaced."""
        if not job.has_place(record.rank) or record.has_finished or not replaces(job):
            return
        pipeline = job.pipeline_of(record.rank)
        same = [m for m in roster.members.values() if m.role == "worker" and job.pipeline_of(m.rank) == pipeline]
        if any(each.has_finished for each in same):
            return
        if roster.spares or job.spares:
            self._since[record.rank] = now
            roster.kept[record.rank] = record
            log.warning("%s is gone, and a %s is to take its place", record, "spare" if roster.spares else "new worker")

    def taken(self, record: MemberRecord, roster: Roster, barriers: int) -> None:
        """Note that a worker has its place, if that was kept."""
        former = roster.kept.pop(record.rank, None)
        if former is None:
            return
        self._since.pop(record.rank, None)
        record.initial, record.barriers = former.initial, barriers
        log.info("%s takes the place of %s", record, former)

    def fill(self, roster: Roster, barriers: int, key: JobKey) -> list[Send]:
        """Have spares take the places that are free; return what they are told."""
        found: list[Send] = []
        for rank in sorted(roster.kept):
            if not (spares := roster.spares):
                break
            roster.take_place(spares[0], rank)
            self.taken(spares[0], roster, barriers)
            found += seated(spares[0], key)
        return found

    def give_up(self, job: JobConfig, roster: Roster, now: float) -> bool:
        """Keep no place for which nobody came in time, or without a pipeline, where others wait; return whether so."""
        if not roster.kept:
            return False
        live = {job.pipeline_of(record.rank) for record in roster.live("worker")}
        for rank, record in list(roster.kept.items()):
            since = self._since.setdefault(rank, now)
            if late := now - since > job.start_timeout:
                log.warning(
                    "no worker came for %g s (--start-timeout) to take the place of %s", job.start_timeout, record
                )
            if late or (live and job.pipeline_of(rank) not in live):
                del roster.kept[rank], self._since[rank]
                return True
        return False


def seated(record: MemberRecord, key: JobKey) -> list[Send]:
    """Return what a worker is told, if it has taken another's place."""
    if record.barriers is None:
        return []
    proof = key.proof(record.member, record.rank, record.number)
    return [Send(record.member, Seat(record.member, record.rank, record.number, proof, record.barriers))]
