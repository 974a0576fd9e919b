"""Moving: how a job's chunk moves go with the rest of it: its checkpoints, who may join, and what all are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.protocol.messages import MoveReport, Placed, Quorum
from ps.server.scheduler.ending import Finish
from ps.server.scheduler.member_record import MemberRecord
from ps.server.send import Send

if TYPE_CHECKING:
    from ps.server.scheduler.state import SchedulerState

MOST_SERVERS = 1000


def why_not(state: SchedulerState) -> str:
    """Return why no chunk of a job can move, or nothing."""
    mode = state.setting("mode")
    if state.federated:
        return "the servers of a federated job are replaced, with what they keep in --state, and not drained"
    if state.job is not None and state.job.pipeline:
        return f"with mode = {mode} chunks stay where they are"
    if state.setting("replicas"):
        return "with replicas chunks stay where they are: each server has a standby for those that it began with"
    if state.phase != "running" or not state.seeding.done:
        return "the job has no model yet" if not state.over else "the job is over"
    return ""


def server_seats(state: SchedulerState) -> int:
    """Return how many servers may be there: more than the job began with, once there are chunks that can move."""
    seats = state.roster.all_servers
    return seats if why_not(state) else max(seats, MOST_SERVERS)


def words(state: SchedulerState) -> tuple[Quorum | None, Placed | None]:
    """Return what members are told beside a view: how many workers lack, and where chunks are."""
    return state.elastic.quorum(state), state.moves.placed(state.epoch)


def turn(state: SchedulerState, now: float, finish: Finish) -> list[Send]:
    """Let chunks move, or a checkpoint be made of chunks that lie still; return what is to be said."""
    sends, saving = _turn(state, now), state.saving
    if saving is not None and saving.verdict is not None:
        sends += finish("failed", "unsaved", saving.verdict) if saving.verdict else finish("ended", "", "")
    return sends


def _turn(state: SchedulerState, now: float) -> list[Send]:
    saving, moves = state.saving, state.moves
    if why_not(state):
        return [] if saving is None else saving.tick(now, state.roster)
    moves.model(state.seeding.layout, state.job)
    ordered = moves.tick(now, state.roster, rests=saving is not None and saving.needs_stillness(now))
    state.changed |= moves.changed
    moves.changed = False
    if saving is None:
        return ordered
    return [*saving.give_way(), *ordered] if moves.is_active else [*saving.tick(now, state.roster), *ordered]


def hear(
    state: SchedulerState,
    record: MemberRecord,
    report: MoveReport,
    now: float,
    renew: Callable[[], None],
    finish: Finish,
) -> list[Send]:
    """Take where a server is with its chunks: all are told of what has moved (``renew``), or the job is lost."""
    if why_not(state):
        return []
    lost = state.moves.hear(record, report, now, state.roster)
    if state.moves.changed:
        state.moves.changed = False
        renew()
    return finish("failed", "server-lost", lost) if lost else []
