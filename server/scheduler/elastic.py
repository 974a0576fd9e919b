"""Elastic: how a job with a range of workers begins, goes on with too few, and gives a place to the next. Pure.

It begins with all that it may have, or, once the fewest are there, when nobody new has come for LAST_CALL: so a
launcher that starts the most begins with the most, and one that gets only some of them does not wait. With fewer than
the fewest nobody begins a step (Quorum) until others come, for the idle time-out; once a worker has come to its own end
there is nothing to wait for. Beyond the most, workers wait as spares; who came first takes the rank that becomes free.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ps.config import JobConfig
from ps.protocol.messages import Placed, Quorum, View
from ps.protocol.messages.words import JobPhase
from ps.server.job_key import JobKey
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.roster import Roster
from ps.server.scheduler.vacancies import seated
from ps.server.send import ASKER, Send
from ps.text import counted

if TYPE_CHECKING:
    from ps.server.scheduler.state import SchedulerState

log = logging.getLogger("ps.scheduler")

LAST_CALL = 3.0
"""Seconds without a newcomer after which a job begins that has its fewest workers."""


class Elastic:
    """What is kept of the comings and goings of a job with a range of workers."""

    def __init__(self) -> None:
        self._came = 0.0
        """When the last worker came."""
        self.finished = False
        """Whether a worker has come to its own end: the others are about to."""
        self._told = 0
        """How many were said to be missing last."""

    def come(self, now: float) -> None:
        """A worker has come."""
        self._came = now

    def may_begin(self, job: JobConfig, workers: int, now: float) -> bool:
        """Whether there are enough workers to begin with."""
        if workers >= job.workers:
            return True
        return workers >= job.fewest and now - self._came >= LAST_CALL

    def missing(self, job: JobConfig | None, workers: int) -> int:
        """Return how many workers lack of a running job's fewest."""
        if job is None or job.min_workers is None or self.finished:
            return 0
        return max(0, job.min_workers - workers)

    def quorum(self, state: SchedulerState) -> Quorum | None:
        """Return what the workers of such a job are told with a view, if it is one and runs."""
        job = state.job
        if job is None or job.min_workers is None or state.phase != "running":
            return None
        missing = self.missing(job, workers := state.count("worker"))
        if missing != self._told:
            self._told = missing
            if missing:
                log.warning("%s left of at least %d: nobody begins a step", counted(workers, "worker"), job.min_workers)
            else:
                log.warning("%s here: training goes on", counted(workers, "worker"))
        return Quorum(state.epoch, missing)

    def lose(self, record: MemberRecord, job: JobConfig, roster: Roster, key: JobKey, phase: JobPhase) -> list[Send]:
        """A worker is gone; have a spare take the rank that is free, and return what it is told."""
        self.finished |= phase == "running" and record.has_finished and not record.report.get("failure")
        found: list[Send] = []
        while job.min_workers is not None and not self.finished and (spares := roster.spares):
            rank = roster.free_rank("worker")
            if rank >= job.workers:
                break
            roster.take_place(spares[0], rank)
            spares[0].barriers = 0
            log.warning("%s, a spare until now, takes part", spares[0])
            found += seated(spares[0], key)
        return found


def answered(view: View, role: str, quorum: Quorum | None, placed: Placed | None) -> list[Send]:
    """Return what one is told that has not heard of a view, with the word about missing workers if it is a worker."""
    words = [placed, view, quorum if role == "worker" else None]
    return [Send(ASKER, word) for word in words if word is not None]
