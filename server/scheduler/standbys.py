"""Standbys: servers beyond those that hold the model, each of which has a copy of one's part and goes on for it.

The standby of server r is the one with the rank of r after all servers' ranks. One that has all says so, and from then
on its server answers nobody without it (see ``PrimaryShard``). So it may have the rank of a server that is gone, and
nothing that anybody was told is lost; whoever is not known to have all may not.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ps.protocol.messages import ReplicaReady
from ps.server.scheduler.checkpoints import Checkpoints
from ps.server.scheduler.member_record import DEAD, MemberRecord
from ps.server.scheduler.moves import ChunkMoves
from ps.server.scheduler.roster import Roster
from ps.server.send import Send

if TYPE_CHECKING:
    from ps.server.scheduler.state import SchedulerState

log = logging.getLogger("ps.scheduler")


def hear(state: SchedulerState, record: MemberRecord, message: ReplicaReady) -> list[Send]:
    """A standby has all of the server that it names, which is saved before it counts; there is nothing to be said."""
    roster = state.roster
    server = roster.at("server", record.rank - roster.server_seats)
    if record.in_sync or not roster.is_standby(record) or server is None or server.member != message.primary:
        return []
    record.in_sync = state.changed = True
    log.info("%s has all that %s has, and would go on for it", record, server)
    return []


def replace(record: MemberRecord, roster: Roster, checkpoints: Checkpoints | None, moves: ChunkMoves) -> str:
    """If a server of a running job is gone, have its standby go on. Return why the job cannot go on, if so."""
    if record.role != "server" or (not roster.has_standbys and not moves.lost(record)):
        return ""
    if roster.is_standby(record):
        log.warning("%s is gone; the server that it was there for goes on without it", record)
        return ""
    standby = roster.at("server", roster.server_seats + record.rank)
    if standby is not None and standby.in_sync:
        former = str(standby)
        standby.in_sync = False
        roster.take_place(standby, record.rank)
        log.warning("%s is gone (%s): %s goes on as server %d", record, record.why, former, record.rank)
        return ""
    verb = "died" if record.state == DEAD else "ended"
    lack = "no standby" if standby is None else "a standby that did not have all of it yet"
    about = f", and there was {lack}" if roster.has_standbys else ""
    newest = checkpoints.newest[1] if checkpoints is not None else ""
    kept = f". The last checkpoint is {newest}" if newest else ""
    return f"{record} {verb} ({record.why}); its part of the model is gone with it{about}{kept}"
