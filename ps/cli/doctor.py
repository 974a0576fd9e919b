"""psctl doctor: what is wrong with a host or a cluster, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_scheduler, timeout_option
from ps.cli.value import place, whole
from ps.errors import PSError

EXIT = """\
  0  nothing is wrong; there may be warnings
  3  a process does not answer; others as in psctl --help
  1  something else is wrong"""
if TYPE_CHECKING:
    from ps.doctor.finding import Finding

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red", "unknown": "dim"}


@click.command(
    cls=HelpfulCommand,
    examples="psctl doctor    this host\npsctl doctor --scheduler 10.0.0.1    and the job there, seen from here\n"
    "psctl doctor --json --dir .",
    notes={"Exit codes": EXIT},
)
@process_options("status")
@timeout_option
@click.option("--dir", "folder", type=place(), default=".", metavar="DIR", help="where checkpoints would go (.)")
@click.option("--threads", type=whole(0, 1024), default=0, metavar="N", help="threads that a process is to have")
@click.option("--no-bandwidth", is_flag=True, help="do not read the model of the job")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def doctor(timeout: float, folder: str, threads: int, no_bandwidth: bool, as_json: bool, **options: Any) -> int:
    """Examine this host, and with --scheduler or PS_SCHEDULER the job there: what is wrong, and what to do.

    It looks at versions, cores, limits, memory, names, shared memory, disk; and whom this host reaches, who reaches
    the scheduler, whose clock or software differs, who waits, and how fast the model is read. Run it on each host.
    """
    from ps.cli.options import read_settings
    from ps.doctor import cluster, host
    from ps.doctor.finding import exit_code

    findings = host.examine(Path(folder), threads)
    if read_settings(options).process().config.scheduler is not None:
        findings += cluster.examine(find_scheduler(options), timeout, Path(folder), bandwidth=not no_bandwidth)
    code = exit_code(findings)
    if as_json:
        click.echo(json.dumps({"exit_code": code, "findings": [each.to_dict() for each in findings]}, indent=2))
    else:
        _show(findings)
    if code:
        wrong = next(each for each in findings if each.state == "wrong" and (each.code or 1) == code)
        error = PSError(f"{wrong.about}, {wrong.what}: {wrong.found}")
        error.exit_code = code
        raise error
    return 0


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    from ps.launch.table import plain_table

    table = plain_table()
    for name in ("about", "what", "", "found"):
        table.add_column(name, overflow="fold")
    for each in findings:
        advice = Text(f"\n→ {each.advice}", STYLES[each.state]) if each.advice else ""
        found = Text(each.found).append(advice or "")
        table.add_row(each.about, each.what, Text(each.state, STYLES[each.state]), found)
    Console(highlight=False).print(table)
    counts = {state: sum(each.state == state for each in findings) for state in ("wrong", "warning")}
    click.echo(f"{counts['wrong']} wrong, {counts['warning']} to be looked at, of {len(findings)}")
