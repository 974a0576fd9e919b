"""Waits: who in a job waits for whom, for what and since when, as far as its scheduler knows. Pure.

What a worker or a server waits for is in its own report; here is what only the scheduler sees: members that have not
come, a barrier, first values, places that are kept, rounds. Beside the status, each is told in a line once it is long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ps.server.scheduler.elastic import LAST_CALL
from ps.server.scheduler.member_record import LIVE
from ps.server.scheduler.state import SchedulerState
from ps.text import waited

SHOWN = 1.0
"""Seconds after which a wait is in the status."""
TOLD = 5.0
"""Seconds after which there is a line of it; the next comes after twice as long, and so on."""
MOST = 10
"""Members that are named, at most."""
MOST_WAITS = 100
"""Waits that are shown, at most."""

Wait = tuple[str, str, str]
"""(who, whom, what)."""


class Waits:
    """Notes since when each wait lasts."""

    def __init__(self) -> None:
        self._since: dict[Wait, float] = {}
        self._told: dict[Wait, float] = {}

    def look(self, state: SchedulerState, now: float) -> list[str]:
        """Take the waits that there are now; return the lines of those that have become long."""
        by_themselves = _of_members(state)
        found = dict(_found(state, by_themselves))
        self._since = {wait: self._since.get(wait, now) if since is None else since for wait, since in found.items()}
        self._told = {wait: limit for wait, limit in self._told.items() if wait in found}
        lines = []
        for wait, since in self._since.items():
            if wait in by_themselves:
                continue
            if now - since >= (limit := self._told.get(wait, TOLD)):
                lines.append(waited(*wait, now - since))
                while limit <= now - since:
                    limit *= 2
                self._told[wait] = limit
        return lines

    def shown(self, now: float) -> list[dict[str, Any]]:
        """Return what the status shows, the longest first."""
        found = [(now - since, wait) for wait, since in self._since.items() if now - since >= SHOWN]
        return [
            {"who": who, "for": whom, "what": what, "seconds": round(seconds, 1)}
            for seconds, (who, whom, what) in sorted(found, reverse=True)[:MOST_WAITS]
        ]


def _found(state: SchedulerState, of_members: Mapping[Wait, float]) -> Iterator[tuple[Wait, float | None]]:
    """Yield each wait, and since when it lasts where that is known."""
    live = {record.rank for record in state.live("worker")}
    role = "client" if state.federated else "worker"
    if state.phase == "waiting":
        absent = [
            f"{wanted - state.count(kind)} {kind}{'' if wanted - state.count(kind) == 1 else 's'}"
            for kind in ("server", "worker")
            if (wanted := int(_fewest(state, kind))) > state.count(kind)
        ]
        if absent:
            yield ("the job", " and ".join(absent), "it begins when all are here (--start-timeout)"), None
        elif state.job is not None and state.count("worker") < state.job.workers:
            most = f"{state.job.workers - state.count('worker')} more workers"
            yield ("the job", most, f"it begins without them when none has come for {LAST_CALL:g} s"), None
    if state.phase != "running":
        return
    if missing := state.elastic.missing(state.job, state.count("worker")):
        yield ("the job", f"{missing} more workers", "fewer than the least are here (--idle-timeout)"), None
    for member, words in state.failure_detector.held.items():
        if (record := state.members.get(member)) is not None and record.state == LIVE:
            yield ("the job", f"{record.role} {record.rank}", f"{words} (a word from it)"), record.seen
    yield from _of_servers(state)
    yield from of_members.items()
    if state.count("server") < (wanted := int(state.setting("servers"))):
        yield ("the job", f"{wanted - state.count('server')} of {wanted} servers", "they are to come back"), None
    if (entered := set(state.barrier)) and entered < live:
        yield (named(role, entered), named(role, live - entered), "a barrier"), None
    if (seeding := state.seeding).layout is not None and not seeding.done:
        owner = state.members.get(seeding.seed)
        parked = {state.members[member].rank for member in seeding.parked if member in state.members}
        whom = f"{role} {owner.rank}" if owner is not None else f"a {role}"
        yield (named(role, parked) if parked else "the servers", whom, "the model's first values"), None
    for readers, holders in state.leasing.leases.waits() if state.leasing.leases is not None else ():
        if holders:
            yield (named(role, readers), named(role, holders), "batches that they have and did not use yet"), None
    if state.ending.phase == "asked":
        yield ("the job", "all workers", "how far they are, as training is to end"), None
    if state.job is not None and state.job.pipeline:
        gone = [m for m in state.view().members if m[1] == "worker" and state.members[m[0]].state != LIVE]
        for _, _, rank, *_ in gone:
            yield ("the job", "another worker", f"to take the place of worker {rank}"), None
    if state.rounds is not None and state.rounds.phase != "done":
        rounds = state.rounds.status()
        what = f"round {state.rounds.under_way}, attempt {rounds['attempt']}, {rounds['phase']}"
        if rounds["phase"] == "select":
            yield (f"round {state.rounds.under_way}", "clients", f"{rounds['goal']} are to take part"), None
        elif rounds["phase"] == "publish" or rounds["phase"] == "close":
            yield ("the round", named("server", rounds["behind"]), what), None
        else:
            yield ("the round", f"{role}s that train, and their contributions", what), None


def _fewest(state: SchedulerState, kind: str) -> Any:
    """Return how many of a kind it takes for the job to begin."""
    return (kind == "worker" and state.setting("min_workers")) or state.setting(f"{kind}s")


def _of_servers(state: SchedulerState) -> Iterator[tuple[Wait, float | None]]:
    """Return which workers servers wait for, as of their last heartbeats."""
    for record in state.live("server"):
        for wait in record.report.get("waiting", ()):
            what = f"clock {wait['clock']:.0f}" + (f", chunk {wait['chunk']:.0f}" if "chunk" in wait else "")
            if wait.get("chunks", 1) > 1:
                what += f" and {wait['chunks'] - 1:.0f} more"
            if wait["for"]:
                yield (f"server {record.rank}", named("worker", set(wait["for"])), what), record.seen - wait["seconds"]


def _of_members(state: SchedulerState) -> dict[Wait, float]:
    """Return what workers wait for, as of their last heartbeats: they tell that themselves."""
    if state.rounds is not None and state.rounds.privacy.sampled:
        return {}  # whether a client waits for a task or trains is whether it was drawn
    rows = ((record, wait) for record in state.live("worker") for wait in record.report.get("waits", ()))
    return {(f"worker {r.rank}", wait["for"], wait["what"]): r.seen - wait["seconds"] for r, wait in rows}


def named(role: str, ranks: Iterable[int]) -> str:
    """Return members of a role, for people."""
    found: Sequence[int] = sorted(ranks)
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return f"{role}{'' if len(found) == 1 else 's'} {', '.join(map(str, found[:MOST]))}{more}"
