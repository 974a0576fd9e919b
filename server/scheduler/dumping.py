"""Dumping: a scheduler's state as plain values, which survive it, and what these say of the members."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ps.config import JobConfig
from ps.server.scheduler.barrier import Barrier
from ps.server.scheduler.checkpoint_cut import CutNames
from ps.server.scheduler.ending import Ending
from ps.server.scheduler.failure_detector import patience
from ps.server.scheduler.leases import Leases
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.moves import ChunkMoves
from ps.server.scheduler.pipelines import Pipelines
from ps.server.scheduler.roster import Roster
from ps.server.scheduler.seeding import Seeding

if TYPE_CHECKING:
    from ps.server.scheduler.state import SchedulerState


def dump(state: SchedulerState, roster: Roster, barrier: Barrier, pipelines: Pipelines) -> dict[str, Any]:
    """Return everything a restarted scheduler needs."""
    return {
        "key": state.key.dump(),
        "explicit": state.explicit,
        "job": state.job.to_dict() if state.job else None,
        "phase": state.phase,
        "code": state.code,
        "reason": state.reason,
        "epoch": state.epoch,
        "next": roster.next,
        "deaths": state.deaths,
        "members": [member.dump() for member in state.members.values()],
        "gone": roster.gone,
        "kept": {str(rank): record.member for rank, record in roster.kept.items()},
        "seeding": state.seeding.dump(),
        "barrier": barrier.dump(),
        "starts": list(pipelines.starts),
        "ending": state.ending.dump(),
        "life": state.life,
        "moves": state.moves.dump(),
        "finished": state.elastic.finished,
        "cuts": dataclasses.asdict(state.cut_names),
        "leases": state.leasing.leases.dump() if state.leasing.leases is not None else None,
    }


def fill(state: SchedulerState, values: dict[str, Any], now: float) -> None:
    """Have a new state be as it was, but for its members."""
    state.job = JobConfig.from_dict(values["job"]) if values["job"] else None
    state.phase, state.epoch = values["phase"], values["epoch"]
    state.code, state.reason, state.deaths = values.get("code", ""), values["reason"], values["deaths"]
    if values["members"]:
        state.absence.come(now)
    state.elastic.finished = values.get("finished", False)
    state.life, state.cut_names = values.get("life", 0), CutNames(**values.get("cuts", {}))
    state.leasing.leases = Leases.load(values["leases"]) if values.get("leases") else None
    state.seeding = Seeding.load(values["seeding"])
    if "moves" in values:
        state.moves = ChunkMoves.load(values["moves"])
        state.moves.model(state.seeding.layout if state.seeding.done else None, state.job)
    state.ending = Ending.load(values["ending"]) if "ending" in values else Ending()


def roster_of(values: dict[str, Any], job: JobConfig | None, now: float, outage: float) -> Roster:
    """Return the members that there were."""
    members = [MemberRecord.load(row, now + patience(outage)) for row in values["members"]]
    roster = Roster.of(members, values["next"], values.get("gone", ()))
    roster.kept = {int(rank): roster.members[member] for rank, member in values.get("kept", {}).items()}
    explicit = values["explicit"]
    roster.seat_servers(explicit.get("servers", 1), explicit.get("replicas", 0))
    roster.deal(job)
    return roster
