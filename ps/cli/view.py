"""The readable form of a job's status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ps.launch import rounds
from ps.launch.progress import loss_of, measured, progress_of, waiting_lines
from ps.launch.table import in_unit, plain_table, seconds, short, unit_of
from ps.text import stopping

Status = Mapping[str, Any]
WIDE = 120
"""Columns of a window in which there is room for where members are, and whom they wait for, beside them."""
MOST_NAMED = 10
"""Clients that are named in a line, at most."""


def view(status: Status, width: int = WIDE) -> RenderableType:
    """Return a status as a headline, a table of members, the rounds, and a line for each wait and each death.

    ``width``: the columns of the window.
    """
    lines: list[RenderableType] = [Text(headline(status), style="bold")]
    if status.get("phase") == "waiting":
        lines.append(Text(progress_of(status).where, style="yellow"))
    lines.append(members(status, wide=width >= WIDE))
    if status.get("stop"):
        lines.append(Text(stopping(status["stop"], federated=bool(status.get("federated"))), style="yellow"))
    if found := measured(status):
        lines.append(Text(f"measured last: {', '.join(found)}"))
    if status.get("checkpoint"):
        lines += checkpoints(status["checkpoint"])
    lines += [Text(text, style="yellow") for text in _all_rejected(status)]
    lines += [Text(text, style="yellow") for text in _not_shown(status)]
    if status.get("federated"):
        lines += federation(status["federated"])
    lines += [Text(text, style="yellow") for text in (*_idle(status), *waiting_lines(status, longer_than=0.0))]
    lines += [Text(text, style="red") for text in map(_death, status.get("deaths", []))]
    return Group(*lines)


def headline(status: Status) -> str:
    """Return the job in one line."""
    job, scheduler = status.get("job") or {}, status.get("scheduler") or {}
    parts = [f"{job.get('mode', 'job')}: {status.get('phase', '?')}"]
    if status.get("reason"):
        parts[0] += f" ({status['reason']})"
    parts += [f"epoch {status.get('epoch', 0)}", f"up {status.get('uptime_s') or 0:.0f} s"]
    if scheduler.get("address"):
        parts.append(f"scheduler {scheduler['address']}")
    if scheduler.get("rejected"):
        parts.append(f"rejected {_rejected(scheduler)}")
    return " · ".join(parts)


def members(status: Status, *, wide: bool = True) -> Table:
    """Return the members as a table; ``wide``: also where they are and whom they wait for."""
    servers, workers = status.get("servers", []), status.get("workers", [])
    unit, size = unit_of(worker.get(key) or 0 for worker in workers for key in ("bytes_up", "bytes_down"))
    clients = bool(status.get("federated"))
    table = plain_table()
    table.add_column("member", no_wrap=True)
    table.add_column("state", no_wrap=True)
    where = ("seen s", "round", "steps") if clients else ("seen s", "clock", "lag")
    for column in (*where, "samples/s", "loss", f"up {unit}", f"down {unit}", "wait s"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("where", "waits for") if wide else ():
        table.add_column(column, overflow="fold")
    for server in servers:
        copies = server.get("backup_of") is not None
        more = (Text(_where(server)), _copy_of(server) if copies else _waits_of_server(server)) if wide else ()
        table.add_row(*_common("standby" if copies else "server", server), "", "", "", "", "", "", *more)
    for worker in workers:
        loss = loss_of(worker)
        table.add_row(
            *_common("client" if clients else "spare" if worker.get("spare") else "worker", worker),
            short(worker.get("steps") or 0) if clients else str(worker.get("lag", "")),
            short(worker.get("samples_per_s") or 0),
            "" if loss is None else f"{loss:.3g}",
            in_unit(worker.get("bytes_up") or 0, size),
            in_unit(worker.get("bytes_down") or 0, size),
            seconds(worker.get("wait_s") or 0),
            *((Text(_where(worker)), _waits_of_worker(worker)) if wide else ()),
        )
    return table


def checkpoints(found: Status) -> list[RenderableType]:
    """Return which checkpoint is the newest whole one, when and where it was made, and how far the next one is."""
    text = "no checkpoint is whole yet"
    if found.get("folder"):
        text = f"checkpoint: {found['folder']}, of step {found.get('step')}"
        text += "" if found.get("ago_s") is None else f", {found['ago_s']:.0f} s ago"
    lines: list[RenderableType] = [Text(text + (f" · in {found['where']}" if found.get("where") else ""))]
    if found.get("waiting_s") is not None:
        whom = ", ".join(found.get("waiting_for") or ["the disk"])
        lines.append(Text(f"checkpoint of step {found.get('clock')}: {found['waiting_s']:.1f} s, waits for {whom}"))
    if found.get("trouble"):
        lines.append(Text(f"the last checkpoint failed: {found['trouble']}", style="red"))
    return lines


def federation(federated: Status) -> list[RenderableType]:
    """Return the rounds of a federated job: a line for the one under way, a line and a table for the last one."""
    parts = [f"{federated.get('algorithm')}: {federated.get('phase')}", rounds.which(federated)]
    parts += [f"attempt {federated['attempt']}"] if (federated.get("attempt") or 1) > 1 else []
    parts += [rounds.accepted(federated), f"{federated.get('active')} training"]
    lines: list[RenderableType] = [Text(" · ".join(parts), style="bold")]
    if counts := rounds.counts(federated):
        lines.append(Text(" · ".join(counts), style="yellow"))
    for key, words in (("slow", "often late, or too slow to be waited for"), ("fruitless", "nothing counts")):
        if federated.get(key):
            lines.append(Text(f"{words}: {_clients(federated[key])}", style="yellow"))
    history = federated.get("history") or []
    if history:
        last = history[-1]
        took = f"last round: {last.get('seconds') or 0:.2f} s, {last.get('accepted')} of {last.get('selected')} counted"
        lines.append(Text(f"{took}, {last.get('steps') or 0:,} steps on {last.get('examples') or 0:,.0f} examples"))
        if last.get("metrics"):
            lines.append(metrics(last["metrics"]))
    return lines


def metrics(found: Status) -> Table:
    """Return how what clients measured is distributed among them, as a table."""
    table = plain_table()
    table.add_column("of the clients", overflow="fold")
    columns = ("mean", "min", "p10", "p50", "p90", "max", "n")
    for column in columns:
        table.add_column(column, justify="right")
    for name, numbers in found.items():
        shown = (numbers.get(column) for column in columns)
        table.add_row(Text(name), *("" if number is None else f"{number:.4g}" for number in shown))
    return table


def _common(role: str, member: Status) -> list[RenderableType]:
    state, seen = str(member.get("state", "?")), member.get("last_seen_s")
    style = {"live": "green", "dead": "red"}.get(state, "dim")
    return [
        f"{role} {member.get('rank')}",
        Text(state, style),
        "" if seen is None else seconds(seen),
        str(member.get("clock", "")),
    ]


def _where(member: Status) -> str:
    return " ".join(str(member[key]) for key in ("host", "pid") if member.get(key) is not None)


def _all_rejected(status: Status) -> list[str]:
    rows = [(role, member) for role in ("server", "worker") for member in status.get(f"{role}s", [])]
    return [f"{role} {m.get('rank')} has rejected {_rejected(m)}" for role, m in rows if m.get("rejected")]


def _waits_of_worker(worker: Status) -> str:
    if not worker.get("waiting_for"):
        return ""
    return f"worker {_ranks(worker['waiting_for'])} ({worker.get('waiting_s') or 0:.1f} s)"


def _copy_of(standby: Status) -> Text:
    """Return whose part of the model a standby has, how much of it, and how far it is behind."""
    share, lag = standby.get("replica_filled") or 0, standby.get("replica_lag") or 0
    behind = f", {lag:.0f} records behind" if lag else ""
    return Text(f"copy of server {standby['backup_of']:.0f}: {100 * share:.0f} %{behind}")


def _waits_of_server(server: Status) -> str:
    return "; ".join(
        f"worker {_ranks(wait.get('for') or [])}, clock {wait.get('clock')} ({wait.get('seconds') or 0:.1f} s)"
        for wait in server.get("waiting", [])
    )


def _idle(status: Status) -> list[str]:
    """Return a line for a job that has no workers, and is kept for others to join."""
    if status.get("idle_s") is None:
        return []
    limit = (status.get("job") or {}).get("idle_timeout") or 0
    return [f"no worker for {status['idle_s']:.0f} s; the model is kept for {limit:g} s (--idle-timeout)"]


def _not_shown(status: Status) -> list[str]:
    """Return a line for each role of which there are more members than are shown."""
    lines = []
    for role, total in (status.get("totals") or {}).items():
        counts = {state: count for state, count in total.items() if state != "shown"}
        if sum(counts.values()) > total["shown"]:
            parts = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
            lines.append(f"{role}: {parts}; {total['shown']:,} of them are shown")
    return lines


def _death(death: Status) -> str:
    clock = f", at clock {death['clock']}" if death.get("clock") is not None else ""
    return f"{death.get('role')} {death.get('rank')} died: {death.get('why')}{clock}"


def _rejected(member: Status) -> str:
    return ", ".join(f"{count} × {why}" for why, count in member["rejected"].items())


def _ranks(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))


def _clients(ranks: list[int]) -> str:
    more = f" and {len(ranks) - MOST_NAMED} more" if len(ranks) > MOST_NAMED else ""
    return f"client{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:MOST_NAMED]))}{more}"
