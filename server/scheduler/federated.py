"""Federated: how a job's rounds go with the rest of it: its first model, who is gone, and its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ps.server.scheduler.ending import Finish
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.rounds import dispatch
from ps.server.scheduler.rounds.rounds import Rounds
from ps.server.send import Send

if TYPE_CHECKING:
    from ps.server.scheduler.state import SchedulerState


def begin(state: SchedulerState, now: float) -> None:
    """Have rounds in a federated job whose first values are on all servers, up to where its training ends."""
    if not (state.federated and state.job and state.seeding.done and state.seeding.layout):
        return
    if state.rounds is None:
        clients, server = partial(state.count, "worker"), partial(state.roster.id_of, "server")
        about, token, job_id = (state.job, state.seeding.layout, now), state.key.token, f"{state.key.job_id:x}"
        state.rounds = Rounds(*about, clients=clients, server=server, token=token, job_id=job_id)
    if state.ending.phase:
        state.rounds.plan(state.ending.clock)


def said(state: SchedulerState, sends: list[Send], finish: Finish) -> list[Send]:
    """Return what the rounds say, and the end of the job if they cannot go on."""
    if state.rounds is not None and state.rounds.failure and not state.over:
        return [*sends, *finish("failed", "server-lost", state.rounds.failure)]
    return sends


def lost(
    state: SchedulerState, record: MemberRecord, now: float, finish: Finish, renew: Callable[[], None]
) -> list[Send]:
    """Rounds go on without a client; a server may come back; when all is done the last client ends the job."""
    if record.role == "server":
        state.seeding.tear()
    ends = state.ending.phase != "" and record.has_finished
    done = ends or (state.rounds is not None and state.rounds.phase == "done")
    sends = [] if state.rounds is None else said(state, dispatch.gone(state.rounds, record, now), finish)
    if not state.over and done and not state.count("worker"):
        sends += finish("ended", "", "")
    elif not state.over and record.role == "server":
        renew()
    return sends
