"""The snapshot of a job: what is shown of it, from its status, as plain values that are valid JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.json_lines import finite
from ps.launch.progress import last_measured, loss_of, progress_of, waiting_lines
from ps.monitor.member_rows import member_rows
from ps.monitor.values import amount, mapping, mean, metric, rows, short, text, texts
from ps.text import stopping

Status = Mapping[str, Any]
Snapshot = dict[str, Any]

MOST_LINES = 20
"""Waits and deaths that are shown, at most."""
MOST_METRICS = 16
MOST_REASONS = 20
SETTINGS = (
    *("mode", "servers", "workers", "min_workers", "optimizer", "schedule", "aggregator", "compress", "transport"),
    *("stages", "replicas", "global_batch"),
)
"""Settings of the job that are shown."""
FEDERATED_SETTINGS = ("algorithm", "clients_per_round", "partition", "local_epochs", "local_steps", "secure", "dp")
"""Those that are shown of a federated job as well."""


def is_private(status: Status) -> bool:
    """Whether nothing is shown that is one client's own."""
    job = mapping(status.get("job"))
    return bool(job.get("dp")) or job.get("secure") not in (None, "none")


def snapshot_of(status: Status, rates: Mapping[str, float], now: float, left: float | None = None) -> Snapshot:
    """Return what is shown of a job at Unix time ``now``.

    ``rates`` are those of ``JobRates``; ``left``: seconds until all is done, where that can be said.
    """
    private = is_private(status)
    job, progress = mapping(status.get("job")), progress_of(status)
    live = [row for row in rows(status.get("workers")) if row.get("state") == "live" and not row.get("spare")]
    shown = member_rows(status, private=private)
    totals = {role: _totals(status, role) for role in ("servers", "workers")}
    found: Snapshot = {
        "time": round(now, 3),
        "job": _settings(job, federated=bool(status.get("federated"))),
        "phase": text(status.get("phase", "?")),
        "reason": text(status.get("reason") or "", 500),
        "epoch": amount(status.get("epoch")),
        "uptime_s": short(amount(status.get("uptime_s"))),
        "address": text(mapping(status.get("scheduler")).get("address") or ""),
        "where": text(progress.where),
        "done": short(finite(progress.done)),
        "total": progress.total,
        "left_s": short(left, 4),
        "totals": totals,
        "now": {**{key: short(value) for key, value in rates.items()}, **_sums(live, private=private)},
        "metrics": {} if private else _metrics(live),
        "members": shown,
        "others": max(0, sum(sum(each.values()) for each in totals.values()) - len(shown)),
        "waits": [text(line, 400) for line in waiting_lines(status)[:MOST_LINES]],
        "deaths": [_death(row) for row in rows(status.get("deaths"))[-MOST_LINES:]],
        "died": len(rows(status.get("deaths"))),
        "measured": _measured(status),
        "stop": text(stopping(status["stop"], federated=bool(status.get("federated")))) if status.get("stop") else "",
        "idle_s": short(finite(status.get("idle_s"))),
        "rejected": _counts(mapping(status.get("scheduler")).get("rejected")),
        "checkpoint": _checkpoint(mapping(status.get("checkpoint"))),
        "moves": _moves(mapping(status.get("moves"))),
        "federated": _federated(mapping(status.get("federated")), private=private),
        "private": private,
    }
    return found


def _settings(job: Status, *, federated: bool) -> dict[str, float | str]:
    keys = [*SETTINGS, *(FEDERATED_SETTINGS if federated else ()), *(["staleness"] if job.get("mode") == "ssp" else [])]
    return {key: metric(job[key]) or text(job[key]) for key in keys if job.get(key) not in (None, "", "none", "0", 0)}


def _totals(status: Status, role: str) -> dict[str, int]:
    """Return how many there are of a role, by what has become of them."""
    told = mapping(mapping(status.get("totals")).get(role))
    if told:
        return {text(state, 20): int(amount(count)) for state, count in told.items() if state != "shown"}
    found: dict[str, int] = {}
    for row in rows(status.get(role)):
        state = text(row.get("state"), 20)
        found[state] = found.get(state, 0) + 1
    return found


def _sums(live: list[Status], *, private: bool) -> dict[str, Any]:
    """Return what the workers' own reports come to."""
    return {
        "samples_per_s": None if private else short(sum(amount(row.get("samples_per_s")) for row in live)),
        "staleness": max((amount(row.get("max_staleness")) for row in live), default=0),
        "lag": max((amount(row.get("lag")) for row in live), default=0),
        "loss": None if private else short(mean(v for row in live if (v := finite(loss_of(row))) is not None)),
    }


def _metrics(live: list[Status]) -> dict[str, dict[str, Any]]:
    """Return, of each metric that is a number, its mean over the workers, its range of late, and how many are not one.

    ``odd``: steps of late in which it was not finite; ``shown``: the mean, or, where no worker has a number, what it
    is instead.
    """
    names = dict.fromkeys(name for row in live for name in mapping(row.get("metrics")))
    found: dict[str, dict[str, Any]] = {}
    for name in [name for name in names if isinstance(name, str)][:MOST_METRICS]:
        values = [metric(mapping(row.get("metrics")).get(name)) for row in live]
        finite = [value for value in values if isinstance(value, int | float)]
        others = [value for value in values if isinstance(value, str)]
        if not finite and not others:
            continue
        ranges = [three for row in live if (three := _range(row, name)) is not None]
        lows = [low for low, _, _ in ranges if low is not None] or finite
        highs = [high for _, high, _ in ranges if high is not None] or finite
        average = short(mean(finite))
        found[text(name, 100)] = {
            "mean": average,
            "low": short(min(lows, default=None)),
            "high": short(max(highs, default=None)),
            "odd": int(sum(odd for _, _, odd in ranges) or len(others)),
            "shown": others[0] if others else average,
        }
    return found


def _range(row: Status, name: str) -> tuple[float | None, float | None, float] | None:
    three = mapping(row.get("ranges")).get(name)
    if not isinstance(three, list | tuple) or len(three) != 3:
        return None
    return finite(three[0]), finite(three[1]), amount(three[2])


def _death(row: Status) -> str:
    clock = f", at clock {amount(row.get('clock')):.0f}" if row.get("clock") is not None else ""
    return text(f"{row.get('role')} {row.get('rank')} died: {row.get('why')}{clock}")


def _measured(status: Status) -> dict[str, Any] | None:
    last = last_measured(rows(status.get("workers")))
    if last is None:
        return None
    values = {text(name, 100): metric(value) for name, value in list(mapping(last["metrics"]).items())[:MOST_METRICS]}
    return {"clock": amount(last["clock"]), "values": {name: v for name, v in values.items() if v is not None}}


def _counts(value: Any) -> dict[str, float]:
    return {text(why, 60): amount(count) for why, count in list(mapping(value).items())[:MOST_REASONS]}


def _checkpoint(found: Status) -> dict[str, Any] | None:
    if not found:
        return None
    return {
        "step": amount(found.get("step")),
        "folder": text(found.get("folder") or ""),
        "where": text(found.get("where") or ""),
        "ago_s": short(finite(found.get("ago_s"))),
        "trouble": text(found.get("trouble") or ""),
        "waiting_s": short(finite(found.get("waiting_s"))),
        "waiting_for": texts(found.get("waiting_for"), 10),
    }


def _moves(found: Status) -> dict[str, Any] | None:
    if not found:
        return None
    counts = {key: amount(found.get(key)) for key in ("moved", "left")}
    return {**counts, "draining": texts(found.get("draining"), 20), "trouble": text(found.get("trouble") or "")}


def _federated(found: Status, *, private: bool) -> dict[str, Any] | None:
    if not found:
        return None
    keys = ("round", "rounds", "attempt", "goal", "accepted", "active", "waiting", "spare", "capped", "abandoned")
    history = rows(found.get("history"))
    return {
        "algorithm": text(found.get("algorithm")),
        "phase": text(found.get("phase")),
        **{key: amount(found.get(key)) for key in keys},
        "deadline_s": short(finite(found.get("deadline_s"))),
        "refused": _counts(found.get("refused")),
        "slow": texts(found.get("slow"), MOST_LINES),
        "fruitless": texts(found.get("fruitless"), MOST_LINES),
        "history": [_round(row, private=private) for row in history],
        "privacy": _privacy(mapping(found.get("privacy"))),
    }


def _privacy(found: Status) -> dict[str, Any] | None:
    if not found:
        return None
    return {
        text(key, 40): metric(value) for key, value in list(found.items())[:MOST_METRICS] if finite(value) is not None
    }


def _round(row: Status, *, private: bool) -> dict[str, Any]:
    """Return a round; ``private``: of what clients report only the mean, for the extremes are single clients' own."""
    columns = ("mean", "n") if private else ("mean", "min", "p10", "p50", "p90", "max", "n")
    metrics = list(mapping(row.get("metrics")).items())[:MOST_METRICS]
    return {
        **{key: amount(row.get(key)) for key in ("round", "selected", "accepted", "spare", "steps")},
        **{key: short(amount(row.get(key))) for key in ("seconds", "examples")},
        "refused": _counts(row.get("refused")),
        "metrics": {
            text(name, 100): {column: short(finite(mapping(values).get(column))) for column in columns}
            for name, values in metrics
        },
    }
