"""Journal: what happens in a job, in lines for whoever watches its scheduler. Pure: states in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ps.server.scheduler.member_record import LIVE, MemberRecord
from ps.server.scheduler.state import SchedulerState
from ps.text import stopping

MOST = 10
"""Members of a turn that are named one by one; of more only their number is said."""
SELDOM = 10.0
"""Seconds between two lines about rounds."""


class Journal:
    """Compares the job with what it was when last looked at."""

    def __init__(self) -> None:
        self._live: dict[int, MemberRecord] = {}
        self._seen: tuple[object, ...] = ()
        self._phase = "waiting"
        self._idle = False
        self._stop: Mapping[str, Any] | None = None
        self._rounds = 0
        self._told = -SELDOM

    def look(self, state: SchedulerState, now: float) -> list[str]:
        """Return what is new: who came and went, that the job began or ended, which round is done."""
        seen = state.epoch, len(state.members), state.count("server"), state.count("worker"), state.phase
        lines = list(self._changes(state)) if seen != self._seen else []
        self._seen = seen
        return [*lines, *self._stopping(state), *self._without_workers(state), *self._progress(state, now)]

    def _stopping(self, state: SchedulerState) -> Iterator[str]:
        before, self._stop = self._stop, state.ending.status()
        if self._stop is not None and before != self._stop:
            yield stopping(self._stop, federated=state.rounds is not None)

    def _without_workers(self, state: SchedulerState) -> Iterator[str]:
        before, self._idle = self._idle, state.absence.idle is not None and state.phase == "running"
        if self._idle and not before:
            limit = state.setting("idle_timeout")
            yield f"no worker is left; the model is kept for {limit:g} s (--idle-timeout) for others to join"

    def _changes(self, state: SchedulerState) -> Iterator[str]:
        live = {record.member: record for role in ("server", "worker") for record in state.live(role)}
        here = f"{_of(state, 'server')}, {_of(state, 'worker')} here"
        came = [record for member, record in live.items() if member not in self._live]
        gone = [record for member, record in self._live.items() if member not in live]
        self._live = live
        if came:
            yield f"{_names(came)} joined: {here}"
        for record in gone if len(gone) <= MOST else ():
            yield f"{record} {'left' if record.state != 'dead' else f'died: {record.why}'}"
        if len(gone) > MOST:
            yield f"{_names(gone)} left or died: {here}"
        if state.phase != self._phase:
            self._phase = state.phase
            yield self._turning_point(state)

    def _turning_point(self, state: SchedulerState) -> str:
        if state.phase == "running":
            job = state.job
            return f"the job begins: mode {state.setting('mode')}" + (f", optimizer {job.optimizer}" if job else "")
        if state.phase == "failed":
            return f"the job failed: {state.reason}"
        return f"the job has ended in good order{_result(state)}"

    def _progress(self, state: SchedulerState, now: float) -> Iterator[str]:
        rounds = state.rounds
        if rounds is None or rounds.version == self._rounds:
            return
        if now - self._told < SELDOM and rounds.version < rounds.job.rounds:
            return
        self._rounds, self._told = rounds.version, now
        last = rounds.history[-1] if rounds.history else {}
        counted = f": {last['accepted']} of {last['selected']} contributions counted" if last else ""
        yield f"round {rounds.version} of {rounds.job.rounds} is done{counted}"


def _of(state: SchedulerState, role: str) -> str:
    count, wanted = state.count(role), int(state.setting(f"{role}s"))
    if role == "worker" and state.federated:
        return f"{count} client{'' if count == 1 else 's'}"
    return f"{count} of {wanted} {role}{'' if wanted == 1 else 's'}" if count <= wanted else f"{count} {role}s"


def _names(records: list[MemberRecord]) -> str:
    return ", ".join(map(str, records)) if len(records) <= MOST else f"{len(records)} members"


def _result(state: SchedulerState) -> str:
    """Return the steps that were taken and what was measured last, as members have reported them."""
    reports = [record.report for record in state.members.values() if record.role == "worker" and record.state != LIVE]
    steps = [report["steps"] for report in reports if isinstance(report.get("steps"), int)]
    text = f": {sum(steps):,} steps by {len(steps)} worker{'' if len(steps) == 1 else 's'}" if steps else ""
    measured = [report["measured"] for report in reports if isinstance(report.get("measured"), dict)]
    if measured:
        numbers = ((name, value) for name, value in measured[-1].items() if isinstance(value, float))
        text += "".join(f", {name} {value:.4g}" for name, value in numbers)
    return text
