"""What ``psctl status`` shows: the scheduler's state as one plain dict. Its keys are documented in the README.

However many members there are and whatever they have said, it fits into one message: of each role those that matter
most are shown, live ones first, and ``totals`` says how many there are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgpack

from ps.server.scheduler.member_record import LIVE, MemberRecord
from ps.server.scheduler.state import SchedulerState

MOST_ROWS = 1000
"""Members of a role that are shown, at most."""
ROOM = 1_500_000
"""Bytes for the rows of a role."""
MOST_RANKS = 1000
"""Workers in the barrier that are named, at most."""
ASIDE = (
    "ranges",
    "metrics",
    "measured",
    "waiting",
    "waits",
    "waiting_for",
    "rejected",
    "failure",
    "why",
    "host",
    "addresses",
)
"""What a row goes without that takes more than its share of the room, in this order."""

OWN = (
    *("metrics", "ranges", "measured", "measured_clock", "samples", "samples_per_s", "steps", "planned_steps"),
    *("first_batch", "failure"),
)
"""What a client says of its own data and training: with differential privacy nobody is shown it. Where each client is
drawn for a round by itself, nothing at all that it says is shown: it would tell whether it was."""


def snapshot(
    state: SchedulerState,
    now: float,
    *,
    address: str,
    uptime: float,
    rejected: dict[str, int],
    waits: Sequence[Mapping[str, Any]] = (),
    wall: float = 0.0,
    process: Mapping[str, Any] = {},
) -> Any:
    """Return the job as a dict of plain values; ``wall``: what time it is by this host's clock (Unix).

    ``process``: what the scheduler says of its own.
    """
    workers, servers = _rows(state, "worker", now, wall), _rows(state, "server", now, wall)
    live = [member.report.get("clock", 0) for member in state.live("worker")]
    ahead = max(live, default=0)
    for row in workers:
        if state.job is not None and not state.job.has_place(row["rank"]):
            row["spare"] = True
        row["lag"] = max(0, ahead - row["clock"]) if row["state"] == LIVE else 0
    status = {
        "job": state.job.to_dict() if state.job else dict(state.explicit),
        "epoch": state.epoch,
        "phase": state.phase,
        "reason": state.reason,
        "stop": state.ending.status(),
        "uptime_s": round(uptime, 3),
        "idle_s": None if state.absence.idle is None else round(now - state.absence.idle, 1),
        "scheduler": {"address": address, "rejected": rejected, "time": wall, **process},
        "servers": servers,
        "workers": workers,
        "totals": {"servers": _total(state, "server", servers), "workers": _total(state, "worker", workers)},
        "deaths": state.deaths,
        "barrier": list(state.barrier[:MOST_RANKS]),
        "waits": list(waits),
    }
    if state.checkpoints is not None:
        where = state.setting("checkpoint_dir")
        status["checkpoint"] = {**state.checkpoints.status(now), **({"where": where} if where else {})}
    if (moves := state.moves.status()) is not None:
        status["moves"] = moves
    if state.rounds is not None:
        status["federated"] = state.rounds.status()
    return _finite(status)


def _rows(state: SchedulerState, role: str, now: float, wall: float) -> list[dict[str, Any]]:
    """Return the rows of those that matter most, by rank: the live before those that are gone."""
    found = [member for member in state.members.values() if member.role == role]
    shown = sorted(found, key=lambda member: (member.state != LIVE, member.rank, member.number))[:MOST_ROWS]
    share = ROOM // max(1, len(shown))
    hidden = OWN if role == "worker" and state.setting("dp") else ()
    silent = role == "worker" and state.rounds is not None and state.rounds.privacy.sampled
    return [
        _fitting(_row(m, now, wall, m.report if silent else hidden), share)
        for m in sorted(shown, key=lambda member: (member.rank, member.number))
    ]


def _fitting(row: dict[str, Any], share: int) -> dict[str, Any]:
    """Return a row that takes no more than its share of the room."""
    for column in ASIDE:
        if len(msgpack.packb(row)) <= share:
            break
        row.pop(column, None)
    return row


def _total(state: SchedulerState, role: str, shown: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many members there are by what has become of them, and how many of them are shown."""
    return {**Counter(m.state for m in state.members.values() if m.role == role), "shown": len(shown)}


def _row(member: MemberRecord, now: float, wall: float, hidden: Collection[str] = ()) -> dict[str, Any]:
    return {
        "clock": 0,
        **_shown(member.report, hidden),
        "id": member.number,
        "rank": member.rank,
        "state": member.state,
        "why": member.why,
        "host": member.host,
        "pid": member.pid,
        "mark": member.mark,
        "addresses": list(member.addresses),
        "last_seen_s": round(max(0.0, now - member.seen), 2),
        **_skew(member, wall - (now - member.seen) if wall else 0.0),
    }


def _skew(member: MemberRecord, heard: float) -> dict[str, float]:
    """Return by how much a member's clock is ahead of ours, and how long its heartbeat took less."""
    sent = member.report.get("sent_at")
    return {"skew_s": round(sent - heard, 2)} if sent and heard else {}


def _shown(report: Mapping[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    """Return the columns of a row that are the member's own."""
    return {key: value for key, value in report.items() if key not in ("terminated", "sent_at") and key not in hidden}


def _finite(value: Any) -> Any:
    """Return plain values without NaN and Inf, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
