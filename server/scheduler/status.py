"""What ``psctl status`` shows: the scheduler's state as one plain dict. Its keys are documented in the README."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ps.server.scheduler.member_record import MemberRecord
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
        "idle_s": None if state.absence.idle is None else round(now - state.absence.idle, 1),
        "scheduler": {"address": address, "rejected": rejected},
        "servers": [_row(m, now) for m in _of(state, "server")],
        "workers": workers,
        "deaths": state.deaths,
        "barrier": list(state.barrier),
    }
    if state.rounds is not None:
        status["federated"] = state.rounds.status()
    return _finite(status)


def _of(state: SchedulerState, role: str) -> list[MemberRecord]:
    found = (member for member in state.members.values() if member.role == role)
    return sorted(found, key=lambda member: (member.rank, member.member))


def _row(member: MemberRecord, now: float) -> dict[str, Any]:
    return {
        "clock": 0,
        **reported(member.report),
        "id": member.member,
        "rank": member.rank,
        "state": member.state,
        "why": member.why,
        "host": member.host,
        "pid": member.pid,
        "addresses": list(member.addresses),
        "last_seen_s": round(max(0.0, now - member.seen), 2),
    }


def reported(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a member's report has of the columns that are a member's to fill, where it is of the column's kind.

    Nobody else's are: a peer may report what it likes. What its script measured is in a column of its own.
    """
    return {key: report[key] for key, fits in _COLUMNS.items() if key in report and fits(report[key])}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_ranks(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(rank, int) for rank in value)


def _are_waits(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(wait, dict)
        and _is_number(wait.get("clock"))
        and _is_number(wait.get("seconds"))
        and _are_ranks(wait.get("for"))
        for wait in value
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and _is_number(count) for k, count in value.items())


def _are_metrics(value: Any) -> bool:
    plain = (int, float, str, bool, type(None))
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, plain) for k, v in value.items())


_NUMBERS = (
    *("clock", "steps", "samples", "samples_per_s", "max_staleness", "bytes_up", "bytes_down", "wait_s", "waiting_s"),
    *("planned_steps", "measured_clock", "bytes", "attempt", "counted", "staged", "staged_bytes"),
)
_COLUMNS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_NUMBERS, _is_number),
    "waiting_for": _are_ranks,
    "waiting": _are_waits,
    "rejected": _are_counts,
    "metrics": _are_metrics,
    "measured": _are_metrics,
    "failure": lambda value: isinstance(value, str),
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
