"""Absence: a job that lacks members, for how long it waits for them, and what it says when that was too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

from ps.dataclass import dataclass
from ps.protocol.messages.words import FailureCode
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.roster import Roster

if TYPE_CHECKING:
    from ps.server.scheduler.state import SchedulerState

Failure = tuple[FailureCode, str]
"""A code and a reason for which the job has failed."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many of a role are here, and how many there should be."""

    here: int
    wanted: int


class Absence:
    """Since when a job has had no workers, or too few servers."""

    def __init__(self) -> None:
        self.idle: float | None = None
        """Since when there is no worker."""
        self._short: float | None = None
        """Since when there are fewer workers than it goes on with."""
        self._without_servers: float | None = None
        self._started: float | None = None
        """Since when a job that has not begun has had a member."""

    def come(self, now: float) -> None:
        """The first member is there."""
        self._started = now if self._started is None else self._started

    def verdict(
        self,
        roster: Roster,
        setting: Callable[[str], Any],
        unheard: Set[int],
        now: float,
        *,
        waiting: bool,
        missing: int = 0,
    ) -> Failure | None:
        """Return why a job is given up, if it is. ``unheard``: servers whose part of the model nobody has heard of.

        ``missing``: how many workers lack of the least that it goes on with.
        """
        servers = Count(here := roster.count("server"), setting("servers"))
        workers = Count(roster.count("worker"), setting("min_workers") or setting("workers"))
        limit = setting("start_timeout")
        if waiting:
            return self.at_start(servers, workers, limit, now)
        if setting("mode") != "federated":  # none comes back: the job goes on without those that were drained
            servers = Count(here, min(here, 1))
        mute = [rank for rank in sorted(unheard) if roster.at("server", rank)]
        last = roster.last("worker")
        return self.of_servers(servers, mute, limit, now) or self.of_workers(
            workers, missing, setting("idle_timeout"), last, now
        )

    def at_start(self, servers: Count, workers: Count, limit: float, now: float) -> Failure | None:
        """Return why a job that has not begun is given up, if it is: ``limit`` seconds from its first member on."""
        if self._started is None or now - self._started <= limit:
            return None
        return "timeout", (
            f"waited {limit:g} s for all members: {servers.here} of {servers.wanted} servers and {workers.here} of "
            f"{workers.wanted} workers joined. Start the others, or raise --start-timeout"
        )

    def of_servers(self, servers: Count, mute: Sequence[int], limit: float, now: float) -> Failure | None:
        """Return why a job whose servers may come back is given up, if it is.

        ``mute`` are those that are here and have not said yet that they have their part of the model.
        """
        self._without_servers = _since(self._without_servers, servers.here < servers.wanted or bool(mute), now)
        if self._without_servers is None or now - self._without_servers <= limit:
            return None
        if mute:
            what = f"server {mute[0]}, which is here, to say that it has its part of the model"
        else:
            what = f"the servers to come back; {servers.here} of {servers.wanted} servers are here"
        return "server-lost", f"waited {limit:g} s for {what}"

    def of_workers(
        self, workers: Count, missing: int, limit: float, last: MemberRecord | None, now: float
    ) -> Failure | None:
        """Return why a job without workers, or with too few of them, is given up; ``last`` is who went last."""
        self.idle = _since(self.idle, not workers.here, now)
        self._short = _since(self._short, missing > 0, now)
        since = self._short if self.idle is None else self.idle
        if since is None or now - since <= limit:
            return None
        about = f"; the last was {last} ({last.why})" if last else ""
        if self.idle is None:
            few = f"of at least {workers.wanted} workers {workers.here} are left"
            return "no-worker", f"{few}, and no other came for {limit:g} s (--idle-timeout){about}"
        return "no-worker", f"no worker is left, and none came for {limit:g} s (--idle-timeout){about}"


def _since(since: float | None, missing: bool, now: float) -> float | None:
    return (now if since is None else since) if missing else None


def lacking(state: SchedulerState, now: float) -> Failure | None:
    """Return why a job is given up that has waited for members for too long."""
    unheard = state.rounds.durability.unheard if state.rounds is not None else set()
    missing, waiting = state.elastic.missing(state.job, state.count("worker")), state.phase == "waiting"
    return state.absence.verdict(state.roster, state.setting, unheard, now, waiting=waiting, missing=missing)
