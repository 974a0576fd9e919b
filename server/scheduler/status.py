"""What ``psctl status`` shows: the scheduler's state as one plain dict. Its keys are documented in the README."""

from __future__ import annotations

import math
from typing import Any

from ps.server.scheduler.record import MemberRecord
from ps.server.scheduler.state import SchedulerState


def snapshot(state: SchedulerState, now: float, *, address: str, uptime: float, rejected: dict[str, int]) -> Any:
    """Return the job as a dict of plain values."""
    workers = [_row(m, now) for m in _of(state, "worker")]
    ahead = max((row.get("clock", 0) for row in workers if row["state"] == "live"), default=0)
    for row in workers:
        row["lag"] = max(0, ahead - row.get("clock", 0)) if row["state"] == "live" else 0
    status = {
        "job": state.job.to_dict() if state.job else dict(state.explicit),
        "epoch": state.epoch,
        "phase": state.phase,
        "reason": state.reason,
        "uptime_s": round(uptime, 3),
        "scheduler": {"address": address, "rejected": rejected},
        "servers": [_row(m, now) for m in _of(state, "server")],
        "workers": workers,
        "deaths": state.deaths,
        "barrier": list(state.barrier),
    }
    if state.federation.rounds is not None:
        status["federated"] = state.federation.rounds.status()
    return _finite(status)


def _of(state: SchedulerState, role: str) -> list[MemberRecord]:
    found = (member for member in state.members.values() if member.role == role)
    return sorted(found, key=lambda member: (member.rank, member.member))


def _row(member: MemberRecord, now: float) -> dict[str, Any]:
    return {
        "id": member.member,
        "rank": member.rank,
        "state": member.state,
        "why": member.why,
        "host": member.host,
        "pid": member.pid,
        "addresses": list(member.addresses),
        "last_seen_s": round(now - member.seen, 2),
        "clock": 0,
        **member.report,
    }


def _finite(value: Any) -> Any:
    """Return plain values without NaN and Inf, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
