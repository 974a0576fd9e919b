"""Member rows: what is shown of each server and worker, and which of them where there are too many for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.json_lines import finite
from ps.launch.progress import loss_of
from ps.monitor.values import amount, mapping, metric, rows, short, text

Status = Mapping[str, Any]

MOST_ROWS = 200
"""Members that a page shows, at most."""
MOST_WAITED_FOR = 10
"""Members that one waits for and that are named, at most."""


def member_rows(status: Status, *, private: bool) -> list[dict[str, Any]]:
    """Return a row for each member, servers first, by rank.

    ``private``: nothing that one client says of its own data and training is in them.
    """
    federated = bool(status.get("federated"))
    found = [_server(row) for row in rows(status.get("servers"))]
    waited_for = {
        rank for row in rows(status.get("servers")) for wait in rows(row.get("waiting")) for rank in _ranks(wait)
    }
    for row in rows(status.get("workers")):
        waited_for.update(_ranks(row, "waiting_for"))
    role = "client" if federated else "worker"
    return found + [_worker(row, role, waited_for, private=private) for row in rows(status.get("workers"))]


def outstanding(found: list[dict[str, Any]], most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """Return as many of the rows as there is room for, in their order: of too many those that stand out."""
    if len(found) <= most:
        return found
    chosen = {id(row) for row in sorted(found, key=_standing_out)[:most]}
    return [row for row in found if id(row) in chosen]


def _server(row: Status) -> dict[str, Any]:
    copies = finite(row.get("backup_of"))
    waits = [
        f"worker {', '.join(map(str, _ranks(wait)))}, clock {amount(wait.get('clock')):.0f}"
        for wait in rows(row.get("waiting"))
        if _ranks(wait)
    ]
    found = _common(row, "server" if copies is None else "standby", waits[:3])
    if copies is not None:
        behind = f", {amount(row.get('replica_lag')):.0f} behind" if row.get("replica_lag") else ""
        found["note"] = f"copy of server {copies:.0f}: {100 * amount(row.get('replica_filled')):.0f} %{behind}"
    elif row.get("replica"):
        found["note"] = f"replica: {text(row['replica'])}"
    return found


def _worker(row: Status, role: str, waited_for: set[int], *, private: bool) -> dict[str, Any]:
    waits = [f"worker {', '.join(map(str, ranks))}"] if (ranks := _ranks(row, "waiting_for")) else []
    waits += [f"{text(wait.get('for'))}: {text(wait.get('what'))}" for wait in rows(row.get("waits"))]
    found = _common(row, "spare" if row.get("spare") else role, waits[:3])
    found |= {"lag": amount(row.get("lag")), "staleness": amount(row.get("max_staleness"))}
    found["waited_for"] = row.get("rank") in waited_for
    if not private:
        loss = loss_of(row)
        found |= {
            "steps": amount(row.get("steps")),
            "samples_per_s": short(amount(row.get("samples_per_s"))),
            "loss": metric(mapping(row.get("metrics")).get("loss") if loss is None else loss),
        }
    return found


def _common(row: Status, role: str, waits: list[str]) -> dict[str, Any]:
    found = {
        "role": role,
        "rank": int(amount(row.get("rank"))),
        "state": text(row.get("state")),
        "seen_s": short(finite(row.get("last_seen_s")), 4),
        "clock": amount(row.get("clock")),
        "up": amount(row.get("bytes_up")),
        "down": amount(row.get("bytes_down")),
        "wait_s": short(amount(row.get("wait_s"))),
        "where": text(" ".join(str(row[key]) for key in ("host", "pid") if row.get(key) is not None)),
        "waits": waits,
    }
    if rejected := mapping(row.get("rejected")):
        found["note"] = text("rejected " + ", ".join(f"{count} × {why}" for why, count in rejected.items()))
    if row.get("why"):
        found["note"] = text(row["why"])
    return found


def _standing_out(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return who is shown first: the live, of these servers, who is waited for, and who is behind."""
    is_server = row["role"] in ("server", "standby")
    return (row["state"] != "live", not is_server, not row.get("waited_for"), -row.get("lag", 0), row["rank"])


def _ranks(row: Status, key: str = "for") -> list[int]:
    found = row.get(key)
    if not isinstance(found, list | tuple):
        return []
    return [rank for rank in found if isinstance(rank, int) and not isinstance(rank, bool)][:MOST_WAITED_FOR]
