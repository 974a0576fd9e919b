"""Views: who is in the job, as all members are told. Made once for all who ask, however many do."""

from __future__ import annotations

from typing import Any

from ps.config import JobConfig
from ps.protocol.messages import Placed, Quorum, View
from ps.protocol.messages.words import FailureCode, JobPhase, StopPhase
from ps.server.scheduler.roster import Roster
from ps.server.send import Send

Standing = tuple[JobPhase, FailureCode, str]
"""A job's phase, and a code and a reason if it has failed."""


class Views:
    """The view that was made last, and whether the members have been told of it."""

    def __init__(self) -> None:
        self.new = False
        """Whether there is a view that the members have not been told."""
        self._sent: tuple[JobConfig, dict[str, Any]] | None = None
        self._made: tuple[JobConfig | None, View] | None = None

    def settings(self, job: JobConfig | None) -> dict[str, Any]:
        """Return a job's settings as they travel."""
        if job is None:
            return {}
        if self._sent is None or self._sent[0] is not job:
            self._sent = job, job.to_dict()
        return self._sent[1]

    def view(
        self,
        epoch: int,
        state: Standing,
        job: JobConfig | None,
        roster: Roster,
        federated: bool,
        stop: tuple[StopPhase, int, str] = ("", 0, ""),
    ) -> View:
        """Return the view of an epoch; ``stop``: whether training is to end early, at which clock, and why."""
        if self._made is not None and self._made[0] is job:
            made = self._made[1]
            if (made.epoch, made.phase, made.code, made.reason) == (epoch, *state):
                return made
        roles = ("server",) if federated else ("server", "worker")  # clients are many, and nobody needs to know
        shown = sorted((m for role in roles for m in roster.shown(role)), key=lambda m: m.number)
        rows = tuple((m.member, m.role, m.rank, m.initial, m.place, m.addresses) for m in shown)
        view = View(epoch, *state, self.settings(job), rows, *stop)
        self._made = job, view
        return view

    def news(self, view: View, roster: Roster, quorum: Quorum | None, placed: Placed | None) -> list[Send]:
        """Return a view for all members, after where chunks are, and a word for workers; they have been told then."""
        self.new = False
        workers = [] if quorum is None else roster.live("worker")
        where = [Send(record.member, placed) for record in roster] if placed is not None else []
        return [*where, *(Send(r.member, view) for r in roster), *(Send(r.member, quorum) for r in workers if quorum)]
