"""psctl chaos: harm the processes of a job of one's own, to see that it goes on."""

from __future__ import annotations

import json
import os
import re
from typing import Any, TypeVar

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_scheduler, timeout_option
from ps.cli.value import whole
from ps.config.values import LONGEST_WAIT
from ps.errors import UsageError

Word = TypeVar("Word", bound=str)

ROLES = ("worker", "server", "scheduler")
UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
HARM = """\
kill  kill -9
stop  the process stands still for a while (SIGSTOP, then SIGCONT)
slow  it runs a fifth of the time, for a while: so do its links
Only processes of the job, on this host and of this user, are touched: what a
member has said of itself must be true of the process, or nothing is done. Where
a job has several hosts, run it on each. Those that stand still go on when it
ends, unless it is itself killed with -9."""


@click.command(
    cls=HelpfulCommand,
    examples="psctl chaos --dry-run --duration 5m\n"
    "psctl chaos --mtbf 60s --duration 10m --seed 7    kills and stops workers\n"
    "psctl chaos --roles worker,server --do stop,slow --for 5s --json",
    notes={"What it does": HARM},
)
@process_options("status")
@timeout_option
@click.option("--mtbf", default="60s", metavar="TIME", help="mean time between faults of the whole job (60s)")
@click.option("--duration", default="10m", metavar="TIME", help="for how long (10m)")
@click.option("--roles", default="worker", metavar="A,B", help=f"who may be harmed: {', '.join(ROLES)} (worker)")
@click.option("--do", "actions", default="kill,stop", metavar="A,B", help="what is done: kill, stop, slow (kill,stop)")
@click.option("--for", "seconds", default="5s", metavar="TIME", help="how long one stands still or is slow (5s)")
@click.option("--least", type=whole(0, 20_000), default=1, metavar="N", help="leave so many of each role alone (1)")
@click.option("--seed", type=whole(0, 2**63 - 1), metavar="N", help="plan the same faults again; drawn unless given")
@click.option("--dry-run", is_flag=True, help="say at once what would be done, and do nothing")
@click.option("--json", "as_json", is_flag=True, help="a line of JSON for each fault")
def chaos(
    timeout: float,
    mtbf: str,
    duration: str,
    roles: str,
    actions: str,
    seconds: str,
    least: int,
    seed: int | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Kill, stop and slow processes of a running job at random, and say what was done.

    For a job of your own, to see before a bad night that it goes on: with --spares, replicas or a supervisor that
    starts what has ended anew. A job ends when a server is lost, unless it is federated.
    """
    from ps.chaos.attacker import Attacker
    from ps.chaos.plan import ACTIONS, faults
    from ps.protocol import query

    found_roles, found_actions = _chosen("--roles", roles, ROLES), _chosen("--do", actions, ACTIONS)
    mean, lasts, length = (_seconds(*pair) for pair in (("--mtbf", mtbf), ("--duration", duration), ("--for", seconds)))
    address, drawn = find_scheduler(options), int.from_bytes(os.urandom(4)) if seed is None else seed

    def tell(entry: dict[str, Any]) -> None:
        click.echo(json.dumps(entry) if as_json else _line(entry))

    attacker = Attacker(lambda: query.fetch_status(address, timeout), found_roles, least, tell, dry=dry_run)
    tell({"action": "begin", "seed": drawn, "mtbf": mean, "duration": lasts, "scheduler": address})
    why = attacker.run(faults(drawn, mean, found_actions, length), lasts)
    tell({"action": "end", "faults": attacker.count, "why": why})
    return 0


def _line(entry: dict[str, Any]) -> str:
    what = entry["action"]
    if what == "begin":
        return (
            f"seed {entry['seed']}: a fault each {entry['mtbf']:g} s for {entry['duration']:g} s, {entry['scheduler']}"
        )
    if what == "end":
        return f"{entry['faults']} faults; {entry['why']}"
    rank = "" if entry.get("role") == "scheduler" else f" {entry.get('rank')}"
    who = f" {entry['role']}{rank}" if "role" in entry else ""
    who += f" (pid {entry['pid']})" if "pid" in entry else ""
    length = f" for {entry['seconds']:.1f} s" if "seconds" in entry else ""
    when = f"{entry['at']:8.2f} s  " if "at" in entry else " " * 12
    return f"{when}{what}{who}{length}{'' if entry.get('done') else ': not done, ' + str(entry.get('why'))}"


def _chosen(option: str, text: str, known: tuple[Word, ...]) -> tuple[Word, ...]:
    found = tuple(word for word in known if word in text.replace(" ", "").split(","))
    if not found or len(found) != len(set(text.replace(" ", "").split(","))):
        raise UsageError(f"{option} is one or several of {', '.join(known)}, not {text[:60]!r}")
    return found


def _seconds(option: str, text: str) -> float:
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)", text.strip())
    unit = UNITS.get(match[2]) if match else None
    seconds = float(match[1]) * unit if match and unit else 0.0
    if not 0 < seconds <= LONGEST_WAIT:
        raise UsageError(f"{option} is a time such as 90, 90s, 5m or 2h, above 0, not {text[:60]!r}")
    return seconds
